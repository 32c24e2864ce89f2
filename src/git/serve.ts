import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'

/**
 * git's smart HTTP protocol, read only, over one mirror: so a node's worker fetches commits from the server and needs no
 * credential of any forge. The caller has authenticated the request. `path` is what follows the repository's name:
 * `info/refs` or `git-upload-pack`.
 */
export async function serveGit(
  mirror: string,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const isAdvertisement = request.method === 'GET' && path === 'info/refs'
  const isFetch = request.method === 'POST' && path === 'git-upload-pack'
  const service = new URL(request.url ?? '/', 'http://x').searchParams.get('service')
  if (!existsSync(mirror) || !(isFetch || (isAdvertisement && service === 'git-upload-pack'))) {
    response.writeHead(404).end()
    return
  }
  const protocol = request.headers['git-protocol']
  const args = [
    '-c',
    'safe.directory=*',
    '-c',
    'uploadpack.allowAnySHA1InWant=true',
    'upload-pack',
    '--strict',
    '--stateless-rpc',
  ]
  const child = spawn('git', [...args, ...(isAdvertisement ? ['--http-backend-info-refs'] : []), '--', mirror], {
    env: {
      PATH: process.env.PATH ?? '/usr/bin:/bin',
      HOME: '/nonexistent',
      GIT_CONFIG_NOSYSTEM: '1',
      ...(typeof protocol === 'string' ? { GIT_PROTOCOL: protocol } : {}),
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const kind = isAdvertisement ? 'advertisement' : 'result'
  response.writeHead(200, { 'content-type': `application/x-git-upload-pack-${kind}`, 'cache-control': 'no-cache' })
  if (isAdvertisement) {
    if (protocol !== 'version=2') response.write('001e# service=git-upload-pack\n0000')
    child.stdin.end()
  } else {
    const body = request.headers['content-encoding'] === 'gzip' ? request.pipe(createGunzip()) : request
    // The client may leave early; then git's answer has no reader, which ends the child as well.
    pipeline(body, child.stdin).catch(() => child.kill())
  }
  await pipeline(child.stdout, response).finally(() => child.kill())
}
