import { createHmac, randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import path from 'node:path'
import type { Say } from '../files.ts'
import type { Api } from './api.ts'
import type { Home } from './home.ts'
import { environmentsOf, git, type Pushed, push, type Stage } from './sample.ts'

const REPO = 'acme/sample'

/** The sample as a plain repository: a push to the candidate branch, and a vote by API. */
export async function atPlainGit(stage: Stage, say: Say): Promise<Home> {
  const bare = path.join(stage.dir, 'sample.git')
  if (!existsSync(bare)) await git(stage.dir, 'init', '--quiet', '--bare', '--initial-branch=master', bare)

  /** What the repository's host sends after a push (`penstock hook install` has it sent by a real one). */
  async function sendWebhook(api: Api, { before = '0'.repeat(40), commit }: Pushed): Promise<void> {
    const body = JSON.stringify({ repository: REPO, ref: 'refs/heads/master', before, after: commit, pusher: 'ada' })
    const answer = await fetch(`${api.url}/hooks/git`, {
      method: 'POST',
      body,
      headers: {
        'content-type': 'application/json',
        'x-penstock-delivery': randomUUID(),
        'x-penstock-signature-256': `sha256=${createHmac('sha256', stage.hookSecret).update(body).digest('hex')}`,
      },
    })
    if (!answer.ok) throw new Error(`the webhook was answered ${answer.status}: ${await answer.text()}`)
  }

  return {
    repo: REPO,
    config: `people:
  ada: { roles: [developer], email: [ada@example.org] }
  tess: { roles: [approver] }
  olga: { roles: [admin] }
repositories:
  ${REPO}:
    forge: git
    url: ${JSON.stringify(bare)}
    webhook_secrets: [{ env: PENSTOCK_DEMO_HOOK_SECRET }]
${environmentsOf(stage)}`,
    env: { PENSTOCK_DEMO_HOOK_SECRET: stage.hookSecret },
    async change(api) {
      const pushed = await push({
        ...{ work: path.join(stage.dir, 'work'), remote: bare, branches: ['master'], onto: 'master' },
        ...{ message: 'Greet in two languages', example: 'sample' },
        files: { 'BUILT.txt': `${new Date().toISOString()}\n` },
      })
      say(`pushed       ${pushed.commit.slice(0, 12)} to master`)
      await sendWebhook(api, pushed)
      say('sent         the signed webhook')
      return pushed
    },
    askedAt: async () => undefined,
    vote: (api, run, gate, isYes) => api.vote(run, gate.name, isYes ? 'approve' : 'reject'),
    shown: async () => ({}),
    stop: async () => {},
  }
}
