export { job } from './job.ts'
export { pipelineRun } from './pipeline-run.ts'
export { unitCare } from './unit-care.ts'
