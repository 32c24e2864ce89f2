import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import type { RunDetail } from '../../store/types.ts'
import { inTurns, timed, toFigure, toFloor } from './measure.ts'
import { type BenchSystem, SECRETS } from './system.ts'

const COUNT = 200_000
const LINE_BYTES = 80
const FLOOR = `docker run --rm IMAGE awk … > file (${COUNT.toLocaleString('en-US')} lines of ${LINE_BYTES} bytes)`
/** Numbered, so that a line that is missing, doubled or out of order shows. */
const PRINT = `awk 'BEGIN { for (i = 1; i <= ${COUNT}; i++) printf "%079d\\n", i }'`
const SECRET = SECRETS[3] ?? { name: '', value: '' }
/** Every hundredth line has a secret in it. */
const PRINT_SECRETS = `awk -v s="$${SECRET.name}" 'BEGIN { for (i = 1; i <= ${COUNT}; i++) if (i % 100 == 0) printf "%0${LINE_BYTES - 2 - SECRET.value.length}d %s\\n", i, s; else printf "%079d\\n", i }'`

export async function lines(system: BenchSystem, rounds: number, say: (text: string) => void) {
  const { image } = system
  const step = (command: string) => `run:\n      - |\n        ${command}`
  const secrets = SECRETS.map(({ name }) => `${name}: env`).join(', ')
  const plain = [...(await system.commits(`image: ${image}\ntest:\n  test:\n    ${step(PRINT)}\n`, rounds + 1))]
  const masked = [
    ...(await system.commits(
      `image: ${image}\ntest:\n  test:\n    secrets: { ${secrets} }\n    ${step(PRINT_SECRETS)}\n`,
      rounds + 1,
    )),
  ]
  const scratch = await mkdtemp(join(tmpdir(), 'penstock-bench-lines-'))
  try {
    const taken = await inTurns(
      rounds,
      {
        toFile: () => toFile(image, join(scratch, 'lines')),
        stored: () => stored(system, plain.shift() ?? '', false),
        masked: () => stored(system, masked.shift() ?? '', true),
      },
      say,
    )
    return {
      floors: { dockerRunLines: toFloor(taken.toFile) },
      figures: {
        lines: toFigure(taken.stored, taken.toFile, { floor: FLOOR, target: 0.9 }),
        maskedLines: toFigure(taken.masked, taken.toFile, { floor: FLOOR, target: 1.3 }),
      },
    }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function toFile(image: string, file: string): Promise<number> {
  const ms = await timed(() =>
    execa('sh', [
      '-c',
      'image=$1 file=$2 print=$3; docker run --rm "$image" sh -c "$print" > "$file"',
      'floor',
      image,
      file,
      PRINT,
    ]),
  )
  const { size } = await stat(file)
  if (size !== COUNT * LINE_BYTES) throw new Error(`the floor has ${size} bytes`)
  return ms
}

/** From the delivery until the log is stored and proved complete, which the step's end tells. */
async function stored(system: BenchSystem, commit: string, isMasked: boolean): Promise<number> {
  const start = Date.now()
  const number = await system.deliver(commit)
  const run = await system.ended(number)
  const step = run.attempts.find((one: RunDetail['attempts'][number]) => one.step === 0)
  if (step?.log?.kind !== 'complete' || step.finishedAt === undefined) {
    throw new Error(`the log of run ${number} is not complete: ${JSON.stringify(step)}`)
  }
  await check(system, number, isMasked)
  await system.quiet()
  return step.finishedAt - start
}

async function check(system: BenchSystem, number: number, isMasked: boolean): Promise<void> {
  const answer = await fetch(`${system.url}/api/v1/runs/${number}/jobs/test/steps/0/log`, { headers: system.headers() })
  let next = 1
  for (const line of (await answer.text()).split('\n')) {
    if (line.includes(SECRET.value)) throw new Error(`run ${number} shows a secret: ${line}`)
    const found = /^(\d+)( .*)?$/.exec(line)
    if (!found) continue
    if (Number(found[1]) !== next) throw new Error(`run ${number} has line ${found[1]} where ${next} belongs`)
    if (isMasked && (next % 100 === 0) !== (found[2] !== undefined)) throw new Error(`run ${number}: masked ${line}`)
    next++
  }
  if (next !== COUNT + 1) throw new Error(`run ${number} has ${next - 1} lines`)
}
