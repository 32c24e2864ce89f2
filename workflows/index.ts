export { job } from './job.ts'
export { pipelineRun } from './pipeline-run.ts'
