import type { DeliverablePlan, Job, Plan, Stage } from '../core/plan.ts'
import { unreachable } from '../core/unreachable.ts'
import { visible } from '../spec/diagnostic.ts'

/** A plan as a person reads it: stages in order, their jobs, and each container with its steps. */
export function formatPlan(plan: Plan): string {
  if (plan.stages.length === 0) return 'nothing to do: the spec has no stage for this event\n'
  return `${plan.stages.flatMap(stageLines).map(visible).join('\n')}\n`
}

function stageLines(stage: Stage): string[] {
  switch (stage.kind) {
    case 'jobs':
      return [
        `${stage.name}${stage.environment ? `: against ${stage.environment}` : ''}`,
        ...stage.jobs.flatMap((job) => jobLines(job, job.name)),
      ]
    case 'deliver':
      return [stage.name, ...stage.deliverables.flatMap(deliverableLines)]
    case 'deploy':
      return stage.how.kind === 'release'
        ? [`${stage.name}: releases deliverable ${stage.how.deliverable}`]
        : [`${stage.name}: deploys`, ...jobLines(stage.how.job, stage.how.job.name)]
    case 'gate':
      return [
        `${stage.name}: waits for the approvals that ${stage.environment} asks for`,
        ...(stage.approvals ?? []).map(({ from, count }) => `  and for ${count} of ${from.join(' or ')}`),
        ...(stage.expiresSeconds === undefined ? [] : [`  for at most ${formatSeconds(stage.expiresSeconds)}`]),
      ]
    case 'promote':
      return [`${stage.name}: fast-forwards branch ${stage.branch} to the commit of the run`]
    default:
      return unreachable(stage)
  }
}

function deliverableLines(deliverable: DeliverablePlan): string[] {
  if (deliverable.kind === 'package')
    return jobLines(deliverable.job, `${deliverable.name}: keeps ${deliverable.files}`)
  const { name, context, dockerfile, to } = deliverable
  return [`  ${name}: image of ${context} (${dockerfile})${to ? `, pushed to ${to}` : ''}`]
}

function jobLines(job: Job, title: string): string[] {
  if (job.manual) return manualLines(job, job.manual, title)
  const { cpus, memory, pids } = job.resources
  const facts = [
    job.needs.length > 0 ? `needs ${job.needs.join(', ')}` : '',
    `at most ${formatSeconds(job.timeoutSeconds)}, ${cpus.limit} CPUs, ${formatBytes(memory.limit)}, ${pids} processes`,
    cpus.reserve > 0 || memory.reserve > 0 ? `reserves ${cpus.reserve} CPUs, ${formatBytes(memory.reserve)}` : '',
    job.constraints.length > 0 ? `on ${job.constraints.join(' and ')}` : '',
    ...job.pools.map(poolFact),
    job.secrets.length > 0
      ? `secrets ${job.secrets.map(({ name, env }) => `${name}${env ? ' (variable)' : ''}`).join(', ')}`
      : '',
    job.workdir === '/workspace' ? '' : `in ${job.workdir}`,
    job.reports.junit.length > 0 ? `reports ${job.reports.junit.join(', ')}` : '',
    job.onLost === 'retry' ? 'runs again when lost' : '',
  ].filter((fact) => fact !== '')
  return [
    `  ${title}: ${facts.join('; ')}`,
    ...job.segments.flatMap(({ image, steps }) => [
      `    ${image}`,
      ...steps.map(
        ({ name, timeoutSeconds }) =>
          `      - ${name}${timeoutSeconds === undefined ? '' : ` (at most ${formatSeconds(timeoutSeconds)})`}`,
      ),
    ]),
  ]
}

function manualLines(
  { needs, pools }: Job,
  { checklist, by, expiresSeconds }: NonNullable<Job['manual']>,
  title: string,
): string[] {
  const facts = [
    ...(needs.length > 0 ? [`needs ${needs.join(', ')}`] : []),
    `people test: ${by.join(', ')}`,
    `expires after ${formatSeconds(expiresSeconds)}`,
    ...pools.map(poolFact),
  ]
  const items = checklist.map(({ name, required }) => `      - ${name}${required ? '' : ' (optional)'}`)
  return [`  ${title}: ${facts.join('; ')}`, ...items]
}

function poolFact({ pool, count, labels, where, mode }: Job['pools'][number]): string {
  const marked = labels.length > 0 ? ` with ${labels.join(', ')}` : ''
  const asked = where === undefined ? '' : ` where ${where}`
  return `holds ${count} of pool ${pool}${mode === 'shared' ? ' to share' : ''}${marked}${asked}`
}

function formatSeconds(seconds: number): string {
  const parts = [
    [Math.floor(seconds / 3600), 'h'],
    [Math.floor((seconds % 3600) / 60), 'm'],
    [seconds % 60, 's'],
  ] as const
  return parts.map(([count, unit]) => (count > 0 ? `${count}${unit}` : '')).join('')
}

function formatBytes(bytes: number): string {
  const GI = 1024 ** 3
  return bytes >= GI ? `${Math.round((bytes / GI) * 100) / 100}Gi` : `${Math.round(bytes / 1024 ** 2)}Mi`
}
