import { createServer } from 'node:net'
import path from 'node:path'
import { z } from 'zod'
import { readJson, writeJson } from './files.ts'

export const Ports = z.object({ api: z.number(), temporal: z.number(), temporalUi: z.number() })
export type Ports = z.infer<typeof Ports>

/** The ports of the last start where they are still free, so that addresses people have noted stay right; else new ones. */
export async function choosePorts(dataDir: string): Promise<Ports> {
  const file = path.join(dataDir, 'ports.json')
  const before = readJson(file, Ports)
  const taken = new Set<number>()
  const choose = async (wanted: number | undefined) => {
    let port = wanted !== undefined && !taken.has(wanted) && (await isFree(wanted)) ? wanted : await freePort()
    while (taken.has(port)) port = await freePort()
    taken.add(port)
    return port
  }
  const ports = {
    api: await choose(before?.api),
    temporal: await choose(before?.temporal),
    temporalUi: await choose(before?.temporalUi),
  }
  writeJson(file, ports)
  return ports
}

async function isFree(port: number): Promise<boolean> {
  try {
    await listenOnce(port)
    return true
  } catch {
    return false // in use, or not ours to take: either way another is chosen
  }
}

export async function freePort(): Promise<number> {
  return listenOnce(0)
}

function listenOnce(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => {
        if (address === null || typeof address === 'string') reject(new Error('a listening socket has no port'))
        else resolve(address.port)
      })
    })
  })
}
