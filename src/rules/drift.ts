import type { Logger } from 'pino'
import type { DeploymentReport, StatusReport } from '../core/report/types.ts'
import type { CommitStatus, DeploymentState, Forge } from '../forge/types.ts'
import type { Audit, BroughtState, Reports } from '../store/types.ts'
import { createPace } from './pace.ts'
import type { Kept, Rule } from './types.ts'

const EVERY_MS = 5 * 60_000
/** Commits that are compared in one turn; the next turn goes on behind them. */
const COMMITS = 20
/** What somebody might still look at. */
const ENDED_MS = 24 * 3_600_000
/** After that nobody asks what a run has shown, and another run of the commit begins anew. */
const FORGOTTEN_MS = 30 * 24 * 3_600_000
const FORGOTTEN_AT_ONCE = 500
/** Somebody else may write the same context again and again: it is said less and less often whose it is. */
const LONGEST_DELAY_MS = 6 * 3_600_000

/**
 * Compares what a forge shows with what it was brought, and brings it again where it differs: a status or deployment that
 * got lost at the forge, or that somebody else has overwritten.
 */
export function createDriftRule(deps: {
  readonly reports: Reports
  readonly audit: Audit
  readonly clock: () => number
  readonly log: Logger
}): Rule {
  const { reports, audit, clock, log } = deps
  const pace = createPace({ everyMs: EVERY_MS, clock })
  const cursors = new Map<string, string>()
  const repaired = new Map<string, { readonly times: number; readonly due: number }>()

  async function look({ repository: { name: repo }, forge }: Kept): Promise<void> {
    await reports.forget(repo, clock() - FORGOTTEN_MS, FORGOTTEN_AT_ONCE)
    for (const [key, { due }] of repaired) if (clock() - due > LONGEST_DELAY_MS) repaired.delete(key)
    const asked = { endedSince: clock() - ENDED_MS, commits: COMMITS, after: cursors.get(repo) ?? '' }
    const brought = await reports.brought(repo, asked)
    const commits = [...new Set(brought.map(({ key }) => key.subject))]
    for (const commit of commits) {
      const standing = (await forge.statuses?.of(commit)) ?? []
      for (const state of brought) {
        if (state.key.subject !== commit) continue
        const shown = await shownOf(forge, standing, state)
        if (shown !== undefined) await repair(state, shown)
      }
      cursors.set(repo, commit)
    }
    if (commits.length < COMMITS) cursors.delete(repo)
  }

  async function repair(state: BroughtState, shown: string): Promise<void> {
    const { repo, subject, kind, name } = state.key
    const key = JSON.stringify(state.key)
    const { times = 0, due = 0 } = repaired.get(key) ?? {}
    if (clock() < due || !(await reports.sendAgain(state))) return
    repaired.set(key, { times: times + 1, due: clock() + Math.min(EVERY_MS * 2 ** times, LONGEST_DELAY_MS) })
    const detail = { kind, commit: subject, run: state.run, wanted: wantedOf(state), shown }
    log.warn({ repo, name, ...detail }, 'a forge shows something else than it was brought; it is sent again')
    await audit.record({ by: 'penstock', channel: 'forge', action: 'forge.drift', on: `${repo} ${name}`, detail })
  }

  return { name: 'what forges show', review: (kept) => pace(kept.repository.name, () => look(kept)) }
}

/** What is there instead; undefined: what it was brought, or nobody can tell. */
async function shownOf(
  forge: Forge,
  standing: readonly CommitStatus[],
  { reported, remote }: BroughtState,
): Promise<string | undefined> {
  switch (reported.kind) {
    case 'status': {
      if (forge.statuses === undefined) return undefined
      const there = standing.find(({ context }) => context === reported.content.context)
      if (there === undefined) return 'nothing'
      const isShown = forge.statuses.isShownAs ?? isSame
      return isShown(reported.content, there) ? undefined : `${there.state}: ${there.description}`
    }
    case 'deployment': {
      if (forge.deployments === undefined || remote === undefined) return undefined
      const there = await forge.deployments.stateOf(remote)
      // A forge makes a deployment inactive itself when a later one of its environment succeeds, whoever made that.
      const wanted = toState(reported.content)
      if (there === 'inactive' || there === wanted) return undefined
      if (there !== undefined && forge.deployments.isShownAs?.(wanted, there)) return undefined
      return there ?? 'nothing'
    }
    default:
      return undefined
  }
}

/** Forges cut a long description each in its own way: its beginning has to do. */
function isSame({ state, description }: StatusReport, there: CommitStatus): boolean {
  const shown = there.description.replace(/…$/, '')
  return there.state === state && description.startsWith(shown) && (shown !== '' || description === '')
}

function toState({ state }: DeploymentReport): DeploymentState {
  return state === 'running' ? 'in_progress' : state
}

function wantedOf({ reported }: BroughtState): string | undefined {
  if (reported.kind === 'status') return `${reported.content.state}: ${reported.content.description}`
  return reported.kind === 'deployment' ? toState(reported.content) : undefined
}
