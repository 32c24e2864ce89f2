import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { EngineRefused } from '../types.ts'

export interface Helper {
  readonly busybox: Buffer
  readonly wrapper: Buffer
}

const PT_INTERP = 3

/** Whether an ELF program asks for a loader (and so for libraries that an image may not have). */
export function isStatic(program: Buffer): boolean {
  if (program.length < 64 || program.toString('latin1', 0, 4) !== '\x7fELF') return false
  const wide = program[4] === 2
  const little = program[5] === 1
  const u16 = (at: number) => (little ? program.readUInt16LE(at) : program.readUInt16BE(at))
  const u32 = (at: number) => (little ? program.readUInt32LE(at) : program.readUInt32BE(at))
  const u64 = (at: number) => Number(little ? program.readBigUInt64LE(at) : program.readBigUInt64BE(at))
  const offset = wide ? u64(0x20) : u32(0x1c)
  const size = u16(wide ? 0x36 : 0x2a)
  const count = u16(wide ? 0x38 : 0x2c)
  for (let index = 0; index < count; index++) {
    const at = offset + index * size
    if (at + 4 > program.length || u32(at) === PT_INTERP) return false
  }
  return true
}

/** Beside this file in the sources; the compiler copies no scripts, so the compiled form (dist/src/...) looks there, too. */
function wrapperPath(): string {
  const beside = fileURLToPath(new URL('./wrapper.sh', import.meta.url))
  return existsSync(beside)
    ? beside
    : fileURLToPath(new URL('../../../../src/engine/swarm/wrapper.sh', import.meta.url))
}

export async function loadHelper(busyboxPath: string): Promise<Helper> {
  let busybox: Buffer
  try {
    busybox = await readFile(busyboxPath)
  } catch (error) {
    throw new EngineRefused(`no busybox at ${busyboxPath}: install a static one (Debian: busybox-static)`, {
      cause: error,
    })
  }
  if (!isStatic(busybox)) {
    throw new EngineRefused(
      `${busyboxPath} is not a static program, so it cannot run in every image: install busybox-static`,
    )
  }
  return { busybox, wrapper: await readFile(wrapperPath()) }
}

/** Named after the wrapper, so that jobs started before an upgrade keep theirs; the busybox in it is each node's own. */
export function helperVolume(instance: string): string {
  const digest = createHash('sha256').update(`${instance}\0`).update(readFileSync(wrapperPath())).digest('hex')
  return `pst-helper-${digest.slice(0, 16)}`
}
