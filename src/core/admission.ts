import { unreachable } from './unreachable.ts'

/** Every way by which something asks to be run. The CLI is a client of the API; it is named because people look for it. */
export const DOORS = [
  'push',
  'pull_request',
  'reopen',
  'label',
  'comment',
  'retry',
  'api',
  'cli',
  'schedule',
  'dependent',
  'merge_queue',
  'promotion',
] as const
export type Door = (typeof DOORS)[number]

/** What the jobs of a run may ask for: the secrets of the repository in the operator's file, or nothing. */
export const SECRET_SCOPES = ['repository', 'none'] as const
export type SecretScope = (typeof SECRET_SCOPES)[number]

/** What a login may do in a repository, as its forge's API says. */
export const ACCESS = ['none', 'read', 'write', 'admin'] as const
export type Access = (typeof ACCESS)[number]
/** `maintain`: more than to write and less than everything, where the forge tells it apart. */
export type Role = Access | 'maintain'

/** What is known of whom to trust. None of it is ever read from a payload or from what git says of an author. */
export interface TrustFacts {
  /**
   * Whose code it is. `branch`: it is on a branch of the repository, which only people with write access can move; `fork`:
   * it is elsewhere, or nobody can say where.
   */
  readonly origin: 'branch' | 'fork'
  /** Of the author of the pull request; absent: there is none. */
  readonly author?: Access
  /** Of whoever asks; absent: nobody does, it is the forge or the clock that tells. */
  readonly asker?: Access
  /** The bytes of the spec are others than at the tip of the base branch. */
  readonly specChanged: boolean
  /** Somebody with write access has let exactly this commit run. */
  readonly approved: boolean
}

/** Only people with write access move a branch: whoever could push it there vouches for it. */
export const ON_A_BRANCH: TrustFacts = { origin: 'branch', specChanged: false, approved: false }

/** Said when a run may be made. `secrets` is kept with the run and never widened. */
export interface Scope {
  readonly secrets: SecretScope
  /** Whether privileged pools, environments, gates and branches may be used. */
  readonly privileged: boolean
}

export type Admitted =
  | ({ readonly kind: 'starts' } & Scope)
  /** The run is made and held; the sentence says for what. */
  | ({ readonly kind: 'waits'; readonly sentence: string } & Scope)

export type Admission = Admitted | { readonly kind: 'refused'; readonly sentence: string }

const WAITS = 'the spec is changed by somebody without write access; somebody with it must let this commit run'

/** May this start, and with what. */
export function admit(door: Door, facts: TrustFacts): Admission {
  if (isAsked(door) && !mayWrite(facts.asker)) {
    return { kind: 'refused', sentence: 'only people with write access may ask for a run' }
  }
  if (!isStranger(facts)) return { kind: 'starts', secrets: 'repository', privileged: true }
  if (!isForStrangers(door)) {
    return { kind: 'refused', sentence: `code of somebody without write access does not start by ${DOOR_NAMES[door]}` }
  }
  const scope = { secrets: 'none', privileged: false } as const
  if (facts.specChanged && !facts.approved) return { kind: 'waits', sentence: WAITS, ...scope }
  return { kind: 'starts', ...scope }
}

/** Whoever opens a pull request from a fork vouches for nothing: its branch is moved by others. */
function isStranger({ origin, author }: TrustFacts): boolean {
  return origin === 'fork' || (author !== undefined && !mayWrite(author))
}

export function mayWrite(access: Access | undefined): boolean {
  return access === 'write' || access === 'admin'
}

/** Somebody asks for it, who is not the author of what is run. */
function isAsked(door: Door): boolean {
  switch (door) {
    case 'comment':
    case 'retry':
    case 'api':
    case 'cli':
      return true
    case 'push':
    case 'pull_request':
    case 'reopen':
    case 'label':
    case 'schedule':
    case 'dependent':
    case 'merge_queue':
    case 'promotion':
      return false
    default:
      return unreachable(door)
  }
}

/** The other doors lead to candidates, deployments or other repositories: only what is on a branch comes there. */
function isForStrangers(door: Door): boolean {
  return isAsked(door) || door === 'pull_request' || door === 'reopen' || door === 'label'
}

const DOOR_NAMES: Readonly<Record<Door, string>> = {
  push: 'a push',
  pull_request: 'a pull request',
  reopen: 'a pull request that is opened again',
  label: 'a label',
  comment: 'a comment',
  retry: 'a retry',
  api: 'the API',
  cli: 'the CLI',
  schedule: 'a schedule',
  dependent: 'a repository it depends on',
  merge_queue: 'a merge queue',
  promotion: 'a promotion',
}

/** What a run has been told of itself when it was made, as facts: a retry decides by these, and can widen nothing. */
export function factsOfRun(run: { readonly secrets: SecretScope; readonly held?: string }, asker?: Access): TrustFacts {
  return {
    origin: run.secrets === 'none' ? 'fork' : 'branch',
    ...(asker === undefined ? {} : { asker }),
    specChanged: run.held !== undefined,
    approved: false,
  }
}

const STRANGERS = 'the code is from a fork, or of somebody without write access'

/** Why a run of this scope may not have it; undefined: it may. */
export function withheld(
  secrets: SecretScope,
  what: { readonly kind: 'secret' | 'pool' | 'environment' | 'stage' | 'branch'; readonly name: string },
): string | undefined {
  if (secrets === 'repository') return undefined
  switch (what.kind) {
    case 'secret':
      return `secret ${what.name} is not available to this run: ${STRANGERS}`
    case 'pool':
      return `pool ${what.name} is privileged and not available to this run: ${STRANGERS}`
    case 'environment':
      return `environment ${what.name} is not available to this run: ${STRANGERS}`
    case 'stage':
      return `stage ${what.name} is not for this run, which only tests: ${STRANGERS}`
    case 'branch':
      return `branch ${what.name} is not moved by this run: ${STRANGERS}`
    default:
      return unreachable(what.kind)
  }
}

const SHORTEST_NAMED = 7

/** Whether `/ok-to-test` of somebody lets this head run. */
export function judgeApproval(asked: {
  readonly asker: Access
  /** The head of the pull request now. */
  readonly head: string
  /** The commit that was named, if one was: its beginning is enough. */
  readonly named?: string
  /** When it was asked, and since when this head's difference was to be seen, by the forge's clock, where it tells. */
  readonly at?: number
  readonly shownAt?: number
}): { readonly kind: 'approved' } | { readonly kind: 'refused'; readonly sentence: string } {
  const { asker, head, named, at, shownAt } = asked
  const short = head.slice(0, 12)
  if (!mayWrite(asker)) return { kind: 'refused', sentence: 'only people with write access may let a commit run' }
  if (named !== undefined) {
    const isHead = named.length >= SHORTEST_NAMED && head.startsWith(named.toLowerCase())
    return isHead ? { kind: 'approved' } : { kind: 'refused', sentence: `the head is ${short}, not what was named` }
  }
  // A head that came while somebody was writing is not what they looked at. The forge tells seconds only.
  if (at !== undefined && shownAt !== undefined && at > shownAt) return { kind: 'approved' }
  return { kind: 'refused', sentence: `the head may have changed meanwhile; name it: /ok-to-test ${short}` }
}
