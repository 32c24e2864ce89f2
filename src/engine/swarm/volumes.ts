import { chmod, lstat, open, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type Docker from 'dockerode'
import { orAbsent } from '../docker.ts'
import { EngineRefused } from '../types.ts'

/** Made or adopted; where its files are on this machine. A volume of another owner under our name is refused. */
export async function ensureVolume(
  docker: Docker,
  name: string,
  labels: Readonly<Record<string, string>>,
): Promise<string> {
  await docker.createVolume({ Name: name, Driver: 'local', Labels: { ...labels } })
  const volume = await docker.getVolume(name).inspect()
  for (const [label, value] of Object.entries(labels)) {
    if (volume.Labels?.[label] !== value)
      throw new EngineRefused(`a volume named ${name} exists already and belongs to something else`)
  }
  const root = volume.Mountpoint
  if ((await lstat(root).catch(() => undefined))?.isDirectory() !== true) {
    throw new EngineRefused(
      `the files of Docker's volumes (${dirname(dirname(root))}) cannot be reached from here: the worker must run on the engine's own machine, or beside it with that folder mounted at the same path`,
    )
  }
  return root
}

export async function volumeRoot(docker: Docker, name: string): Promise<string | undefined> {
  const volume = await orAbsent(docker.getVolume(name).inspect())
  return volume?.Mountpoint
}

/**
 * What the worker itself remembers of a volume: beside the folder that containers see, where only root gets, and gone
 * with the volume.
 */
export function besideVolume(root: string, name: string): string {
  return join(dirname(root), name)
}

/** Whole or not at all, also for who reads meanwhile. */
export async function writeWhole(path: string, content: string | Buffer, mode: number): Promise<void> {
  const fresh = `${path}.new`
  await rm(fresh, { force: true })
  await writeFile(fresh, content, { mode, flag: 'wx' })
  // The process's umask took its part of the mode.
  await chmod(fresh, mode)
  await rename(fresh, path)
}

/** Makes a file if it is not there yet; one that is there is kept with what it has. */
export async function makeOnce(path: string, content: string, mode: number): Promise<void> {
  try {
    const file = await open(path, 'wx', mode)
    try {
      await file.writeFile(content)
      await file.chmod(mode)
    } finally {
      await file.close()
    }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}
