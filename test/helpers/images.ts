import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Where Debian's busybox-static puts it. */
export const BUSYBOX = '/bin/busybox'

export interface ImageParts {
  /** Applets linked into /bin; none: an image without a shell. */
  readonly applets: readonly string[]
  readonly files?: Readonly<Record<string, string>>
  /** Dockerfile instructions, for example `USER 1000`. */
  readonly changes?: readonly string[]
}

/**
 * Makes an image from nothing but the static busybox, by `docker import`: no registry is needed. The same parts give the
 * same name, so that it is made once.
 */
export async function importImage(name: string, parts: ImageParts): Promise<string> {
  const tag = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12)
  const image = `${name}:${tag}`
  const present = await run('docker', ['image', 'inspect', image]).then(
    () => true,
    () => false,
  )
  if (present) return image
  const root = await mkdtemp(join(tmpdir(), 'image-'))
  try {
    for (const folder of ['bin', 'etc', 'tmp', 'root', 'var/lib', 'home/user'])
      await mkdir(join(root, folder), { recursive: true })
    await chmod(join(root, 'tmp'), 0o1777)
    if (parts.applets.length > 0) {
      await copyFile(BUSYBOX, join(root, 'bin/busybox'))
      for (const applet of parts.applets) await symlink('busybox', join(root, 'bin', applet))
    }
    for (const [path, content] of Object.entries({ ...ACCOUNTS, ...parts.files })) {
      await mkdir(dirname(join(root, path)), { recursive: true })
      await writeFile(join(root, path), content)
    }
    const changes = ['ENV PATH=/usr/bin:/bin', ...(parts.changes ?? [])].flatMap((change) => ['--change', change])
    await run('sh', [
      '-c',
      'root=$1; shift; tar -C "$root" -c . | docker import "$@"',
      'import',
      root,
      ...changes,
      '-',
      image,
    ])
    return image
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}

const ACCOUNTS = {
  'etc/passwd':
    'root:x:0:0:root:/root:/bin/sh\n_apt:x:100:65534::/nonexistent:/bin/false\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n',
  'etc/group': 'root:x:0:\npostgres:x:70:\nuser:x:1000:\nnogroup:x:65534:\n',
}

/** Enough for tests' scripts. */
export const APPLETS =
  'sh cat echo printf sleep usleep seq head tail ls chmod chown mkdir rm ln mv cp touch id su setpriv kill ps stat test true false dd wc nc httpd ip grep env mount sync sha256sum yes truncate find mknod sysctl tr setsid nohup date awk nslookup timeout sed wget'.split(
    ' ',
  )
