import { randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import path from 'node:path'
import type { Say } from './files.ts'

const SECRET_BYTES = 24

/** An operator's file to start from, with a webhook secret of its own beside it. Overwrites nothing. */
export function writeExample(file: string, say: Say): void {
  const secretFile = path.join(path.dirname(file), 'penstock.secrets', 'example-webhook')
  mkdirSync(path.dirname(secretFile), { recursive: true, mode: 0o700 })
  writeNew(file, example(path.relative(path.dirname(file), secretFile)), 0o644)
  writeNew(secretFile, randomBytes(SECRET_BYTES).toString('hex'), 0o600)
  say(`wrote ${file} and ${secretFile}; put your repository and your people in, then \`npm start\``)
}

function writeNew(file: string, text: string, mode: number): void {
  const descriptor = openSync(file, 'wx', mode)
  try {
    writeSync(descriptor, text)
  } finally {
    closeSync(descriptor)
  }
}

function example(secretFile: string): string {
  return `# What Penstock serves. Every key and its default: docs/operator.md
server:
  listen: 127.0.0.1:7410

people:
  admin: { roles: [admin] }
  tester: { roles: [approver] }

repositories:
  example/app:
    forge: git # or github: { token: { env: GITHUB_TOKEN } }
    url: /srv/git/app.git
    branches: { candidate: master, production: production }
    webhook_secrets:
      - file: ${secretFile}
    environments:
      staging:
        target:
          swarm: { service: app-staging, publish: [{ host: 18080, container: 8000 }] }
      production:
        target:
          swarm: { service: app-production, publish: [{ host: 18081, container: 8000 }] }
        approvers: [tester]
`
}
