import { existsSync } from 'node:fs'
import { lstat, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type Docker from 'dockerode'
import tarFs from 'tar-fs'
import type { Deliverable } from '../core/plan.ts'

/** The build said no: the user's Dockerfile, not us. */
export class BuildFailed extends Error {
  override readonly name = 'BuildFailed'
}

export interface ImageBuilder {
  /**
   * `docker build` of a directory of a checkout. Output goes to `write`. The image is labelled and tagged after repository,
   * deliverable and commit; with `to` it is pushed there, and known by the registry's digest.
   */
  build(input: {
    readonly checkout: string
    readonly context: string
    readonly dockerfile: string
    readonly repo: string
    readonly name: string
    readonly commit: string
    readonly run: string
    readonly to?: string
    readonly write: (text: string) => void
    readonly signal: AbortSignal
  }): Promise<Deliverable>
}

const MEMORY_BYTES = 4 * 1024 ** 3

export function createImageBuilder({
  docker,
  instance,
}: {
  readonly docker: Docker
  readonly instance: string
}): ImageBuilder {
  return {
    async build(input) {
      const { checkout, commit, name, repo, run, write, signal } = input
      const dir = join(checkout, input.context)
      await mustBePlain(checkout, input.context, 'directory')
      await mustBePlain(checkout, join(input.context, input.dockerfile), 'file')
      const tag = `penstock/${repo.toLowerCase().replace(/[^a-z0-9]+/g, '-')}-${name}:${commit.slice(0, 12)}`
      const tree = tarFs.pack(dir, await ignoring(dir)) as unknown as NodeJS.ReadableStream
      const stream = await docker.buildImage(tree, {
        t: tag,
        dockerfile: input.dockerfile,
        buildargs: { PENSTOCK_COMMIT: commit },
        labels: {
          'penstock.image': name,
          'penstock.instance': instance,
          'penstock.run': run,
          'penstock.commit': commit,
        },
        forcerm: true,
        memory: MEMORY_BYTES,
        abortSignal: signal,
      } as Docker.ImageBuildOptions)
      await follow(stream, write)
      const { Id: id } = await docker.getImage(tag).inspect()
      if (input.to === undefined) return { name, kind: 'image', digest: id, reference: id }
      return { name, kind: 'image', ...(await push(tag, input.to, commit, write)) }
    },
  }

  async function push(tag: string, to: string, commit: string, write: (text: string) => void) {
    const target = { repo: to, tag: commit.slice(0, 12) }
    await docker.getImage(tag).tag(target)
    const image = docker.getImage(`${target.repo}:${target.tag}`)
    await follow(await (image.push({}) as Promise<NodeJS.ReadableStream>), write)
    const { RepoDigests: digests } = await image.inspect()
    const reference = digests?.find((one) => one.startsWith(`${to}@`))
    const digest = reference?.slice(reference.indexOf('@') + 1)
    if (!reference || !digest) throw new Error(`${to} took the image and told no digest`)
    return { digest, reference }
  }
}

/** Docker's progress stream: text for the log; an error in it is the build's. */
async function follow(stream: NodeJS.ReadableStream, write: (text: string) => void): Promise<void> {
  let rest = ''
  for await (const chunk of stream) {
    rest += chunk.toString()
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line.trim() === '') continue
      const said = JSON.parse(line) as {
        stream?: string
        status?: string
        id?: string
        progress?: string
        error?: string
      }
      if (said.error !== undefined) {
        write(`${said.error}\n`)
        throw new BuildFailed(said.error)
      }
      if (said.stream !== undefined) write(said.stream)
      else if (said.status !== undefined && said.progress === undefined)
        write(`${said.id ? `${said.id}: ` : ''}${said.status}\n`)
    }
  }
}

/** Refuses links on the way, so that nothing outside the checkout is read. */
async function mustBePlain(root: string, path: string, kind: 'file' | 'directory'): Promise<void> {
  let at = root
  for (const part of path.split('/').filter((one) => one !== '' && one !== '.')) {
    if (part === '..') throw new BuildFailed(`${path} leaves the checkout`)
    at = join(at, part)
    const stat = await lstat(at).catch(() => undefined)
    if (!stat) throw new BuildFailed(`${path} does not exist in the checkout`)
    if (stat.isSymbolicLink()) throw new BuildFailed(`${path} is a link; a build reads plain files only`)
  }
  const stat = await lstat(at)
  if (kind === 'file' ? !stat.isFile() : !stat.isDirectory()) throw new BuildFailed(`${path} is not a ${kind}`)
}

/** `.git` never reaches a build; plain names and directories of a `.dockerignore` are left out, too. */
async function ignoring(dir: string): Promise<tarFs.PackOptions> {
  const file = join(dir, '.dockerignore')
  const text = existsSync(file) && (await lstat(file)).isFile() ? await readFile(file, 'utf8') : ''
  const names = text
    .split('\n')
    .map((line) => line.trim().replace(/^\/+|\/+$/g, ''))
    .filter((line) => line !== '' && !line.startsWith('#') && !/[*?![\]]/.test(line))
  return {
    ignore: (path) => {
      const relative = path.slice(dir.length + 1)
      return [...names, '.git'].some((name) => relative === name || relative.startsWith(`${name}/`))
    },
  }
}
