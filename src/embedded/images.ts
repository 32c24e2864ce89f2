import { execFile } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { promisify } from 'node:util'
import type Docker from 'dockerode'
import tar from 'tar-fs'
import { z } from 'zod'
import { LABELS } from '../core/ids.ts'
import { isNotFound } from '../engine/docker.ts'
import { canInstall, findProgram, installPackages } from './debian.ts'
import type { Say } from './files.ts'

const run = promisify(execFile)

/** The number is the recipe's: what changes the content changes it. */
export const BASE_IMAGES = { base: 'penstock/base:1', python: 'penstock/python:1' } as const

export interface ImageOptions {
  readonly env: NodeJS.ProcessEnv
  readonly say: Say
}

/** Images for machines that reach no registry, made from what is installed here: a shell, and a shell with Python. */
export async function ensureBaseImages(docker: Docker, options: ImageOptions): Promise<typeof BASE_IMAGES> {
  const wanted = [
    { reference: BASE_IMAGES.base, fill: async (root: string) => fillBase(root, await ensureBusybox(options)) },
    {
      reference: BASE_IMAGES.python,
      fill: async (root: string) => {
        fillBase(root, await ensureBusybox(options))
        await fillPython(root, await ensurePython(options))
      },
    },
  ]
  for (const { reference, fill } of wanted) {
    if (await hasImage(docker, reference)) continue
    options.say(`making the image ${reference}`)
    const root = mkdtempSync(path.join(tmpdir(), 'penstock-image-'))
    try {
      await fill(root)
      await importTree(docker, root, reference)
    } finally {
      rmSync(root, { recursive: true, force: true })
    }
  }
  return BASE_IMAGES
}

export async function hasImage(docker: Docker, reference: string): Promise<boolean> {
  try {
    await docker.getImage(reference).inspect()
    return true
  } catch (err) {
    if (isNotFound(err)) return false
    throw err
  }
}

async function importTree(docker: Docker, root: string, reference: string): Promise<void> {
  const [repo, tag] = reference.split(':')
  const content = tar.pack(root, {
    map: (header) => {
      // Who made the tree must not decide who may read the image.
      header.uid = 0
      header.gid = 0
      if (header.type === 'directory') header.mode = (header.mode ?? 0) | 0o755
      return header
    },
  })
  const options = {
    repo,
    tag,
    changes: [
      `LABEL ${LABELS.image}=${reference}`,
      'ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin',
      'CMD ["sh"]',
    ],
  }
  // dockerode's types know only the form with a callback here.
  const answer: unknown = await docker.importImage(content.pipe(new PassThrough()), options)
  if (!(answer instanceof Readable)) throw new Error('Docker did not answer the import of an image')
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(answer, (err) => (err ? reject(err) : resolve()))
  })
}

const SHELL_LINKS = ['/bin', '/usr/bin', '/sbin', '/usr/sbin']

function fillBase(root: string, busybox: string): void {
  for (const folder of [
    ...SHELL_LINKS,
    '/etc',
    '/root',
    '/tmp',
    '/var/tmp',
    '/usr/local/bin',
    '/proc',
    '/sys',
    '/dev',
  ]) {
    mkdirSync(path.join(root, folder), { recursive: true })
  }
  chmodSync(path.join(root, 'tmp'), 0o1777)
  chmodSync(path.join(root, 'var/tmp'), 0o1777)
  cpSync(busybox, path.join(root, 'bin/busybox'))
  chmodSync(path.join(root, 'bin/busybox'), 0o755)
  for (const applet of APPLETS) symlinkSync('/bin/busybox', path.join(root, 'bin', applet))
  symlinkSync('/bin/busybox', path.join(root, 'usr/bin/env'))
  writeFileSync(
    path.join(root, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n',
  )
  writeFileSync(path.join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n')
  writeFileSync(path.join(root, 'etc/nsswitch.conf'), 'hosts: files dns\n')
}

/** Linked by name rather than asked of the binary: a tree must not depend on which helpers one build of busybox has. */
const APPLETS =
  'ash awk base64 basename cat chmod chown cmp cp cut date dd df diff dirname du echo egrep expr false find grep gunzip gzip head hostname id ip kill ln ls md5sum mkdir mkfifo mktemp mv nc nproc od printf ps pwd readlink realpath rm rmdir sed seq sh sha1sum sha256sum sleep sort stat stty su sync tail tar tee test timeout touch tr true tty uname uniq wc wget which xargs yes'.split(
    ' ',
  )

/** The path of a statically linked busybox. */
export async function ensureBusybox(options: ImageOptions): Promise<string> {
  const find = () => {
    const found = findProgram('busybox', `/bin:${options.env.PATH ?? ''}`)
    return found !== undefined && isStatic(found) ? found : undefined
  }
  const present = find()
  if (present !== undefined) return present
  if (!canInstall()) throw new Error('a static busybox is needed: install the package busybox-static')
  await installPackages(['busybox-static'], 'the helper that runs steps inside their containers', options.say)
  const installed = find()
  if (installed === undefined)
    throw new Error('the package busybox-static is installed, but /bin/busybox is not static')
  return installed
}

const ELF = { magic: '7f454c46', programHeaders: 32, entrySize: 54, entries: 56, interpreter: 3 } as const

/** Whether a 64-bit ELF file asks for no interpreter (dynamic linker). */
export function isStatic(file: string): boolean {
  const head = Buffer.alloc(4096)
  const descriptor = openSync(file, 'r')
  try {
    readSync(descriptor, head, 0, head.length, 0)
  } finally {
    closeSync(descriptor)
  }
  if (head.toString('hex', 0, 4) !== ELF.magic || head[4] !== 2) return false
  const start = Number(head.readBigUInt64LE(ELF.programHeaders))
  const size = head.readUInt16LE(ELF.entrySize)
  for (let i = 0; i < head.readUInt16LE(ELF.entries); i++) {
    const at = start + i * size
    if (at + 4 > head.length) return false
    if (head.readUInt32LE(at) === ELF.interpreter) return false
  }
  return true
}

const Python = z.object({ executable: z.string(), version: z.string(), stdlib: z.string(), dynload: z.string() })
type Python = z.infer<typeof Python>

/** Imports what the sample needs, so that a Python with half its library (Debian's python3-minimal) does not count. */
const ASK_PYTHON = `
import http.server, json, os, ssl, sys, sysconfig, unittest, zipfile
stdlib = sysconfig.get_path('platstdlib')
print(json.dumps({
  'executable': os.path.realpath(sys.executable),
  'version': '%d.%d' % sys.version_info[:2],
  'stdlib': os.path.realpath(sysconfig.get_path('stdlib')),
  'dynload': os.path.join(os.path.realpath(stdlib), 'lib-dynload'),
}))
`

async function ensurePython(options: ImageOptions): Promise<Python> {
  const present = await askPython(options)
  if (present !== undefined) return present
  if (!canInstall()) throw new Error('Python 3 is needed for the sample: install python3')
  await installPackages(['python3'], 'the sample is a Python service', options.say)
  const installed = await askPython(options)
  if (installed === undefined)
    throw new Error('the package python3 is installed, but its standard library is not whole')
  return installed
}

async function askPython(options: ImageOptions): Promise<Python | undefined> {
  // The system's own first: others are often shims, or live where only their owner may read.
  for (const program of ['/usr/bin/python3', findProgram('python3', options.env.PATH ?? '')]) {
    if (program === undefined || !existsSync(program)) continue
    try {
      const { stdout } = await run(program, ['-I', '-c', ASK_PYTHON])
      return Python.parse(JSON.parse(stdout))
    } catch (err) {
      // Exited with an error: parts are missing. Anything else is no answer about this Python.
      if (!(err instanceof Error && 'code' in err)) throw err
    }
  }
  return undefined
}

const NOT_NEEDED = /^(test|idlelib|tkinter|turtledemo|lib2to3|ensurepip|site-packages|dist-packages|config-.*)$/

/** Python with its library and the shared objects both of them load: a fiftieth of the time of a whole distribution. */
async function fillPython(root: string, python: Python): Promise<void> {
  const put = (file: string) => {
    const target = path.join(root, file)
    if (existsSync(target)) return
    mkdirSync(path.dirname(target), { recursive: true })
    cpSync(realpathSync(file), target, { preserveTimestamps: true })
  }
  put(python.executable)
  // Compiled files count only while they carry their source's time, so times are kept.
  cpSync(python.stdlib, path.join(root, python.stdlib), {
    recursive: true,
    dereference: true,
    preserveTimestamps: true,
    filter: (source) => path.dirname(source) !== python.stdlib || !NOT_NEEDED.test(path.basename(source)),
  })
  const extensions = existsSync(python.dynload)
    ? readdirSync(python.dynload)
        .filter((name) => name.endsWith('.so') && !name.startsWith('_tkinter'))
        .map((name) => path.join(python.dynload, name))
    : []
  for (const library of await sharedObjects([python.executable, ...extensions])) put(library)
  for (const name of ['python3', 'python']) {
    const link = path.join(root, 'usr/bin', name)
    if (!existsSync(link)) symlinkSync(python.executable, link)
  }
}

async function sharedObjects(files: readonly string[]): Promise<ReadonlySet<string>> {
  const { stdout } = await run('ldd', [...files], { maxBuffer: 16 * 1024 * 1024 })
  const found = new Set<string>()
  for (const line of stdout.split('\n')) {
    const match = /^\s+(?:\S+ => )?(\/\S+) \(0x/.exec(line)
    if (match?.[1] !== undefined) found.add(match[1])
  }
  // Loaded by name, so no file mentions them: at the first look-up of a host (C libraries before 2.34), and when a
  // thread is ended.
  const libc = [...found].find((file) => path.basename(file).startsWith('libc.so'))
  for (const name of ['libnss_files.so.2', 'libnss_dns.so.2', 'libresolv.so.2', 'libgcc_s.so.1']) {
    const file = libc === undefined ? undefined : path.join(path.dirname(libc), name)
    if (file !== undefined && existsSync(file)) found.add(file)
  }
  return found
}
