import { createHash, randomUUID } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'

/** Files by their content: `sha256:<hex>`. What a name in a repository says is a label, never a path here. */
export interface ArtifactStore {
  /** Keeps the bytes and gives their digest. Repeatable: the same bytes are there once. */
  put(bytes: Buffer): Promise<string>
  /** undefined: nothing with that digest. */
  open(digest: string): Promise<{ readonly size: number; readonly stream: Readable } | undefined>
  /** Repeatable: what is not there is removed. Whoever calls it knows that nothing is left that points at the bytes. */
  remove(digest: string): Promise<void>
}

const DIGEST = /^sha256:([0-9a-f]{64})$/

export function createArtifactStore({ dir }: { readonly dir: string }): ArtifactStore {
  const pathOf = (hex: string) => join(dir, hex.slice(0, 2), hex)
  return {
    async put(bytes) {
      const hex = createHash('sha256').update(bytes).digest('hex')
      const path = pathOf(hex)
      if (!existsSync(path)) {
        await mkdir(join(dir, hex.slice(0, 2)), { recursive: true })
        const fresh = `${path}.${randomUUID()}`
        const file = await open(fresh, 'wx', 0o600)
        try {
          await file.writeFile(bytes)
          // A deliverable is recorded after this: it must outlive a power loss.
          await file.sync()
        } finally {
          await file.close()
        }
        await rename(fresh, path)
      }
      return `sha256:${hex}`
    },
    async open(digest) {
      const hex = DIGEST.exec(digest)?.[1]
      if (hex === undefined || !existsSync(pathOf(hex))) return undefined
      const { size } = await stat(pathOf(hex))
      return { size, stream: createReadStream(pathOf(hex)) }
    },
    async remove(digest) {
      const hex = DIGEST.exec(digest)?.[1]
      if (hex !== undefined) await rm(pathOf(hex), { force: true })
    },
  }
}
