import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import path from 'node:path'
import { promotionBranch } from '../../core/ids.ts'
import { EVENTS, PERMISSIONS } from '../../forge/github/permissions.ts'
import { type Exchange, startFakeGithub } from '../fake-github/server.ts'
import type { Pull } from '../fake-github/state.ts'
import type { Say } from '../files.ts'
import type { Home } from './home.ts'
import { environmentsOf, push, readExample, type Stage } from './sample.ts'
import type { Terminal } from './terminal.ts'
import { until } from './until.ts'

/** Penstock has by then done what it does at a forge, or never will. */
const PATIENCE_SECONDS = 120
/** As long as the operator's file gives a dependent. */
const DEPENDENT_MINUTES = 10
interface Shown {
  readonly context: string
  readonly state: string
  readonly description: string | null
}

const FEATURE = 'two-languages'
const BOT = 'penstock'

/**
 * The sample as a team at GitHub has it: protected branches, an App, a pull request that is reviewed and merged by a
 * comment, a repository that depends on it, and a promotion pull request.
 *
 * This GitHub's memory ends with the process, while Penstock's database and the addresses of the system stay from call to
 * call. So each call makes repositories of a new name. Under the old one the new GitHub would give numbers of pull
 * requests, comments and reviews a second time, and what Penstock has recorded by them (a `/merge` that it has obeyed, a
 * vote that it has counted) could make it overlook new ones; and it would look for what an interrupted call has left
 * open at a GitHub that never had it. A repository that is no longer in the operator's file is left alone by every rule.
 */
export async function atFakeGithub(stage: Stage, { say, isWatched }: Terminal, hookUrl: string): Promise<Home> {
  const repo = `acme/sample-${stage.call}`
  const client = `acme/sample-client-${stage.call}`
  const dir = path.join(stage.dir, 'github')
  rmSync(dir, { recursive: true, force: true })
  const github = await startFakeGithub({ dir, onExchange: createNarrator(say) })
  const { world, url } = github
  const token = `ghp_${randomBytes(16).toString('hex')}`
  const { appId, privateKey } = await populate()

  async function populate() {
    for (const one of [repo, client]) {
      await world.addRepository(one)
      for (const login of ['ada', 'ben']) world.setAccess(one, login, 'write')
    }
    world.addToken('ada', token)
    const { commit } = await pushTo(repo, ['master', 'production'], 'The first release', 'sample', {})
    say(`at github    ${url}/${repo}.git, where master and production are at ${commit.slice(0, 12)}`)
    // The example follows `acme/sample`; here the sample has another name.
    const spec = readExample('sample-client', '.penstock.yml').replaceAll('acme/sample', repo)
    await pushTo(client, ['master', 'production'], 'A client', 'sample-client', { '.penstock.yml': spec })
    say(`at github    ${url}/${client}.git, which is to work with every release`)
    // Only now: what was there before Penstock is no news.
    const made = world.createApp({
      slug: BOT,
      permissions: Object.fromEntries(PERMISSIONS.map(({ name, level }) => [name, level])),
      events: EVENTS.map(({ name }) => name),
      hook: { url: hookUrl, secret: stage.hookSecret },
    })
    world.installApp([repo, client])
    // As docs/github.md says.
    world.protect(repo, 'master', { checks: ['penstock/test', 'penstock/up-to-date'], reviews: 1, linear: true })
    world.protect(repo, 'production', { checks: ['penstock/signoff'], onlyBy: [`${BOT}[bot]`], linear: true })
    return { appId: made.id, privateKey: made.privateKey }
  }

  function pushTo(to: string, branches: readonly string[], message: string, example: string, files: object) {
    const remote = `${url.replace('//', `//ada:${token}@`)}/${to}.git`
    const work = path.join(stage.dir, 'work')
    return push({ work, remote, branches, onto: 'master', message, example, files: { ...files } })
  }

  const pullAddress = (number: number) => `${url}/repos/${repo}/pulls/${number}`
  const statuses = (commit: string) => world.repo(repo).statuses.filter(({ sha }) => sha === commit)
  const stateOf = (commit: string, context: string) =>
    statuses(commit).findLast((one) => one.context === `penstock/${context}`)?.state

  function promotionOf(run: number): Pull | undefined {
    return world.repo(repo).pulls.find(({ head }) => head.branch === promotionBranch(run))
  }

  return {
    repo,
    config: `people:
  ada: { roles: [developer], github: ada, email: [ada@example.org] }
  ben: { roles: [developer], github: ben, email: [ben@example.org] }
  tess: { roles: [approver], github: tess }
  olga: { roles: [admin] }
repositories:
${entryOf(client)}${entryOf(repo)}${environmentsOf(stage)}    dependents: { blocking: [${client}], timeout: ${DEPENDENT_MINUTES}m }
`,
    env: { PENSTOCK_DEMO_HOOK_SECRET: stage.hookSecret, PENSTOCK_DEMO_APP_KEY: privateKey },

    async change(api, follow) {
      const message = 'Greet in two languages'
      const { commit } = await pushTo(repo, [FEATURE], message, 'sample', {
        'BUILT.txt': `${new Date().toISOString()}\n`,
      })
      say(`ada          pushed ${commit.slice(0, 12)} to ${FEATURE}`)
      const { number } = await world.openPull(repo, { by: 'ada', head: FEATURE, base: 'master', title: message })
      say(`ada          opened pull request ${number}: ${pullAddress(number)}`)
      const pushed = await api.runThat(
        `the run of ${FEATURE}`,
        ({ change }) => change.commit === commit && change.ref === `refs/heads/${FEATURE}`,
      )
      say(`run ${pushed.number}        the push; for the merge counts the run of the pull request`)
      const tested = await api.runThat(
        `the run of pull request ${number}`,
        ({ trigger, change }) => trigger.kind === 'pull_request' && change.commit === commit,
      )
      say(`run ${tested.number}        pull request ${number}`)
      const outcome = await follow(tested.number)
      if (outcome !== 'succeeded') return { commit, failed: outcome }
      for (const context of ['test', 'up-to-date']) {
        await until(`penstock/${context}`, PATIENCE_SECONDS, () => stateOf(commit, context) === 'success')
      }
      world.review(repo, number, { by: 'ben', state: 'APPROVED', body: 'Good.' })
      say(`ben          approved pull request ${number}`)
      world.comment(repo, number, { by: 'ada', body: '/merge' })
      say(`ada          commented /merge`)
      await until('the merge', PATIENCE_SECONDS, () => world.pullOf(world.repo(repo), number).mergedAt !== null)
      return { commit }
    },

    async askedAt(run, commit) {
      const { number } = await until('the promotion pull request', PATIENCE_SECONDS, () => promotionOf(run))
      const isThrough = () => !['pending', undefined].includes(stateOf(commit, `dependents/${client}`))
      await until('what the client says of it', DEPENDENT_MINUTES * 60, isThrough)
      return pullAddress(number)
    },

    async vote(_api, run, _gate, isYes) {
      const pull = promotionOf(run)
      if (pull === undefined) throw new Error(`run ${run} has no promotion pull request`)
      if (isYes) world.review(repo, pull.number, { by: 'tess', state: 'APPROVED' })
      // "Request changes" would hold the release, and not end it.
      else world.comment(repo, pull.number, { by: 'tess', body: '/reject the answer was no' })
      say(`tess         ${isYes ? 'approved' : 'rejected, by a comment on'} pull request ${pull.number}`)
    },

    async shown(commit, outcome) {
      const isShown = () =>
        stateOf(commit, 'run') !== 'pending' &&
        (outcome !== 'succeeded' || stateOf(commit, 'production') === 'success') &&
        world.repo(repo).pulls.every(({ base, state }) => base !== 'production' || state === 'closed')
      // What GitHub does not show by then is not there, which is what the report says.
      await until('what GitHub shows', PATIENCE_SECONDS, isShown).catch((err: Error) => say(err.message))
      const pulls = world.repo(repo).pulls.map((pull) => ({
        ...{ number: pull.number, title: pull.title, url: pullAddress(pull.number) },
        ...{ head: pull.commit, base: pull.base, state: pull.mergedAt === null ? pull.state : 'merged' },
      }))
      for (const pull of pulls) say(`at github    ${pull.url} ${pull.state}: ${pull.title}`)
      const statusesUrl = `${url}/repos/${repo}/commits/${commit}/statuses`
      say(`at github    ${statusesUrl}`)
      const all = statuses(commit).map(({ context, state, description }) => ({ context, state, description }))
      const newest = all.filter((one, index) => all.findLastIndex(({ context }) => context === one.context) === index)
      const width = Math.max(0, ...newest.map(({ context }) => context.length))
      for (const { context, state, description } of newest) {
        say(`             ${context.padEnd(width)}  ${state.padEnd('pending'.length)}  ${description ?? ''}`)
      }
      if (isWatched) say(`to look      curl -H "authorization: bearer ${token}" ADDRESS`)
      return { github: { url, repository: repo, pulls, statusesUrl, statuses: newest, history: changesOf(all) } }
    },

    stop: () => github.stop(),
  }

  function entryOf(name: string): string {
    return `  ${name}:
    forge: { github: { api: "${url}", app: { id: "${appId}", private_key: { env: PENSTOCK_DEMO_APP_KEY } } } }
    url: ${url}/${name}.git
    webhook_secrets: [{ env: PENSTOCK_DEMO_HOOK_SECRET }]
`
  }
}

/** Without those that only said something else of the same state. */
function changesOf(all: readonly Shown[]): readonly Shown[] {
  const states = new Map<string, string>()
  return all.filter(({ context, state }) => {
    const isNew = states.get(context) !== state
    states.set(context, state)
    return isNew
  })
}

/** Tells what Penstock does at GitHub, in the order in which GitHub takes it. */
function createNarrator(say: Say): (exchange: Exchange) => void {
  const states = new Map<string, unknown>()

  return ({ method, template = '', path: where, status, requestBody, responseBody }) => {
    if (status < 200 || status > 299) return
    const asked = (requestBody ?? {}) as Readonly<Record<string, unknown>>
    const last = decodeURIComponent(where.slice(where.lastIndexOf('/') + 1))
    switch (`${method} ${template}`) {
      case 'POST /repos/{owner}/{repo}/statuses/{sha}': {
        const key = `${last} ${asked.context}`
        if (states.get(key) === asked.state) return
        states.set(key, asked.state)
        return say(`penstock     ${asked.context} ${asked.state}: ${asked.description}`)
      }
      case 'PATCH /repos/{owner}/{repo}/git/refs/{ref}':
        return say(`penstock     fast-forwarded ${last.replace(/^heads\//, '')} to ${String(asked.sha).slice(0, 12)}`)
      case 'POST /repos/{owner}/{repo}/pulls': {
        const { number } = responseBody as { readonly number: number }
        return say(`penstock     opened pull request ${number}: ${asked.title}`)
      }
      default:
        return
    }
  }
}
