import type { Step } from '../../core/plan.ts'
import { EngineRefused } from '../types.ts'

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/

/** One word for a POSIX shell, whatever bytes it has. */
export function quote(value: string): string {
  return `'${value.replaceAll("'", "'\\''")}'`
}

function exportLine(name: string, value: string): string {
  if (!VARIABLE.test(name)) {
    throw new EngineRefused(
      `${JSON.stringify(name)} cannot be the name of a variable: use letters, digits and "_", and no digit first`,
    )
  }
  if (value.includes('\0'))
    throw new EngineRefused(`the value of variable ${name} contains a NUL character, which no variable can hold`)
  return `export ${name}=${quote(value)}`
}

/** The command as it is shown before it runs; further lines of it are marked as such. */
function shown(command: string): string {
  return command
    .trimEnd()
    .split('\n')
    .map((line, index) => `${index === 0 ? '$' : '>'} ${line}`)
    .join('\n')
}

export interface StepScript {
  readonly step: Step
  readonly env: Readonly<Record<string, string>>
  readonly secretEnv: readonly string[]
  readonly workdir: string
}

/**
 * What the image's shell executes for one step. Values are written here, in a file of the control volume, and never into
 * the service: those of secrets are read from their files when the step starts, so they are not even here.
 */
export function stepScript({ step, env, secretEnv, workdir }: StepScript): string {
  const lines = Object.entries({ ...env, ...step.env }).map(([name, value]) => exportLine(name, value))
  for (const name of secretEnv) {
    if (!VARIABLE.test(name)) throw new EngineRefused(`secret ${JSON.stringify(name)} cannot be the name of a variable`)
    // The x keeps newlines at the end of the value, which the shell would cut off.
    lines.push(
      `${name}=$(/.penstock/bin/busybox cat /run/secrets/${name} && printf x) && ${name}=\${${name}%x} && export ${name} || exit 125`,
    )
  }
  lines.push(`cd -- ${quote(workdir)} || exit 125`, 'set -e')
  for (const command of step.run) lines.push(`printf '%s\\n' ${quote(shown(command))}`, command)
  return `${lines.join('\n')}\n`
}
