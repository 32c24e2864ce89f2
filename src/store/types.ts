import type { Admitted, SecretScope } from '../core/admission.ts'
import type { Answer, GateRules, GateState, Objection, Proof, Subject, Verdict } from '../core/approval.ts'
import type { Change, Trigger } from '../core/change.ts'
import type { RunEvent, Waiting } from '../core/events.ts'
import type { FieldValues } from '../core/form.ts'
import type { JobKey, LogKey } from '../core/ids.ts'
import type { Notice } from '../core/notice.ts'
import type { Outcome } from '../core/outcome.ts'
import type { Deliverable, ManualTest, Plan } from '../core/plan.ts'
import type { Progress } from '../core/progress.ts'
import type { DesiredState, Reported } from '../core/report/types.ts'
import type { AskedAgain, ItemAnswer, ItemResult, SessionState, SessionSubject } from '../core/session.ts'
import type { LeaseRow, Leases, Reservations, Units } from './pool-types.ts'

/**
 * What is held and what has been. Every write is one transaction and repeatable: the same call with the same key
 * changes nothing the second time. Times are milliseconds since 1970 (UTC), from the clock given to `openStore`.
 */
export interface Store {
  readonly deliveries: Deliveries
  readonly runs: Runs
  readonly events: Events
  readonly gates: Gates
  readonly promotions: Promotions
  readonly leases: Leases
  readonly units: Units
  readonly reservations: Reservations
  readonly deployments: Deployments
  readonly outbox: Outbox
  readonly notices: Notices
  readonly merges: Merges
  readonly reports: Reports
  readonly people: People
  readonly results: Results
  readonly sessions: Sessions
  readonly nodes: Nodes
  readonly audit: Audit
  readonly sightings: Sightings
  readonly masks: Masks
  close(): Promise<void>
}

// ---------------------------------------------------------------- deliveries and runs

export interface NewDelivery {
  /** `github`, `git`, `api`, `promotion`. */
  readonly source: string
  /** Unique per source: the forge's delivery id. */
  readonly id: string
  /** sha256 (hex) of the body: the same id with another body is refused. */
  readonly bodyDigest: string
  readonly event: string
  /** As the operator's file has it; taken from the trigger or notice where there is one. */
  readonly repo?: string
  /** When it happened, as the forge has it: of two moves of a branch the later one stands. */
  readonly at?: number
  readonly seen?: SeenAtForge
}

/** Nobody has told of it: somebody who asked the forge has seen it. It counts only while the branch is known as it was then. */
export interface SeenAtForge {
  /** Undefined: the branch was not known. */
  readonly known: KnownBranch | undefined
  /** The forge says which move it was, and `before` is that of the move; otherwise it is only what was known last. */
  readonly isMoveKnown: boolean
}

export interface KnownBranch {
  readonly ref: string
  /** Absent: it is gone. */
  readonly commit?: string
  /** When we came to know that. */
  readonly seenAt: number
}

export type Recorded =
  /** A run was made: number, workflow id; its start is in the outbox, in the same transaction. */
  | { readonly kind: 'run'; readonly run: RunRow }
  /** Seen before, by id or by meaning; `run` is the one it became, if it became one. */
  | { readonly kind: 'duplicate'; readonly by: 'id' | 'meaning'; readonly run?: RunRow }
  /** Kept for whoever looks at the forge. */
  | { readonly kind: 'noted'; readonly about: Notice }
  /** Known and of no consequence (`reason`: "branch deleted"). */
  | { readonly kind: 'ignored'; readonly reason: string }
  /** Same id, other body. */
  | { readonly kind: 'conflict' }

export interface Deliveries {
  /**
   * Records a delivery and, unless it is a duplicate, makes its run: number, try 1, event `run.queued.v1`, and the
   * outbox entry `start`. A push is a duplicate by meaning if (ref, before, after) is known, unless the branch was
   * last seen in the state `before` (so delete and push again, or force-push back and again, count as new), and this
   * one is later by the forge's time, if that is known. A push that comes after a later one makes its run, and leaves
   * the branch where it is. One that was seen at the forge and the delivery that tells of it afterwards are one.
   * A pull request is one by (number, head commit). The notice, if one comes with it, is kept unless the delivery is a
   * duplicate by id. What `admit` of core said of it is kept with the run; without it the run meets no secret. A run
   * that waits has no `start` before it is admitted.
   */
  record(delivery: NewDelivery, trigger: Trigger, admission?: Admitted, notice?: Notice): Promise<Recorded>
  /** Keeps a notice, once a delivery. */
  recordNotice(delivery: NewDelivery, repo: string, notice: Notice): Promise<Recorded>
  /** The ref is gone from `before`, unless it has moved since; the next push of any commit to it counts as new. */
  recordBranchDeleted(
    delivery: NewDelivery,
    repo: string,
    ref: string,
    notice?: Notice,
    before?: string,
  ): Promise<Recorded>
  recordIgnored(delivery: NewDelivery, reason: string): Promise<Recorded>
  /** What came, newest first, and what became of it. */
  list(query: {
    readonly limit: number
    readonly repo?: string
    /** Only those that came before this time. */
    readonly before?: number
  }): Promise<readonly DeliveryRow[]>
}

export interface DeliveryRow {
  readonly source: string
  readonly id: string
  readonly event: string
  /** Absent: the payload named none, or it came before this was kept. */
  readonly repo?: string
  readonly receivedAt: number
  readonly outcome: 'run' | 'duplicate' | 'noted' | 'ignored'
  /** Number of the run that it became, or had become before. */
  readonly run?: number
  readonly reason?: string
  /** What the rules were asked to look at after it. */
  readonly notice?: {
    readonly about: Notice
    readonly tries: number
    readonly doneAt?: number
    readonly outcome?: string
    /** Why it could not be dealt with, the last time. */
    readonly error?: string
  }
}

/** A commit at a ref: `refs/heads/…`, or `refs/pull/12/head`. */
export interface Sight {
  readonly ref: string
  readonly commit: string
}

/** What is known of the refs of a repository, for whoever compares it with the forge. */
export interface Sightings {
  /** Its branches as deliveries and sweeps have them; undefined before the first sight. */
  of(repo: string): Promise<readonly KnownBranch[] | undefined>
  /** The first sight: what is there, and was told by nobody, is known from now on and starts nothing. Once a repository. */
  begin(repo: string, sights: readonly Sight[]): Promise<void>
  /** Of these heads of pull requests, those that have no run, were not there at the first sight, and are not looked into. */
  untold(repo: string, pulls: readonly PullHead[]): Promise<readonly PullHead[]>
  /** The rules have been asked to look at it. */
  sawPull(repo: string, pull: PullHead): Promise<void>
}

export interface PullHead {
  readonly number: number
  readonly commit: string
}

export interface NoticeRow {
  readonly id: number
  readonly repo: string
  readonly notice: Notice
  readonly tries: number
  readonly receivedAt: number
}

/** What forges have told and nobody has looked into yet. */
export interface Notices {
  /**
   * Due ones, oldest first, but for those of the repositories in `except`; taken from everybody else for `leaseMs`.
   * Whoever takes one and is killed leaves it to the next after that time.
   */
  take(limit: number, leaseMs: number, except?: readonly string[]): Promise<readonly NoticeRow[]>
  /** `outcome`: what came of it, for people. */
  done(id: number, outcome: string): Promise<void>
  /** To be tried again after `delayMs`. */
  failed(id: number, error: string, delayMs: number): Promise<void>
  /** Not dealt with, oldest first. */
  pending(): Promise<readonly NoticeRow[]>
}

export type MergeState =
  /** For the rules to hold. */
  | 'waiting'
  | 'merged'
  /** It will not come of this wish: `why`. */
  | 'ended'
  /** Another wish for the same commit was waiting already. */
  | 'joined'

/** That somebody wants a pull request merged, at one head. */
export interface MergeRow {
  readonly id: number
  readonly repo: string
  readonly pullRequest: number
  readonly commit: string
  /** A login at the forge; of the channels `api` and `cli` a person's name. */
  readonly by: string
  readonly channel: string
  readonly askedAt: number
  readonly state: MergeState
  readonly why?: string
  readonly endedAt?: number
  /** What was last said of it at the forge. */
  readonly told?: string
}

export interface TakenMerge extends MergeRow {
  /** Of this taking; an older one changes nothing any more. */
  readonly claim: number
  /** How often it was taken since it last went well. */
  readonly tries: number
}

export interface NewMerge {
  /** What asked, for example `comment/4711`: asked again it is the same wish, whatever has become of it. */
  readonly key: string
  readonly repo: string
  readonly pullRequest: number
  readonly commit: string
  readonly by: string
  readonly channel: string
}

/** Wishes to merge, until what has become of them is told. */
export interface Merges {
  /** With a notice, so that somebody looks at it soon, if `wake`. */
  ask(merge: NewMerge, options?: { readonly wake?: boolean }): Promise<MergeRow>
  /** Not ended, or not told, oldest first. */
  open(repo: string, pullRequest?: number): Promise<readonly MergeRow[]>
  /** Newest first. */
  list(query: { readonly limit: number; readonly repo?: string }): Promise<readonly MergeRow[]>
  /** Nobody else's for `leaseMs`. Undefined: it is done with, not due, or somebody has it. */
  take(id: number, leaseMs: number): Promise<TakenMerge | undefined>
  told(taken: TakenMerge, text: string): Promise<void>
  /** Not changed once ended. `merged` is recorded in the audit. */
  end(taken: TakenMerge, state: 'merged' | 'ended', why: string): Promise<void>
  /** Everybody's again: `waits` goes well, `failed` is counted. */
  release(taken: TakenMerge, how: { readonly kind: 'waits' | 'failed'; readonly delayMs: number }): Promise<void>
  /** There is no more to say. */
  done(taken: TakenMerge): Promise<void>
}

export type RunStatus = 'queued' | 'running' | 'waiting' | Outcome

export interface RunRow {
  readonly repo: string
  /** Counted over the whole installation, so `penstock run logs 42` needs no repository. */
  readonly number: number
  /** `acme/web#42` */
  readonly id: string
  readonly trigger: Trigger
  readonly change: Change
  readonly status: RunStatus
  readonly reason?: string
  /** The newest try, from 1. */
  readonly try: number
  /** Name of the stage the run is at. */
  readonly stage?: string
  readonly waiting?: Waiting
  readonly specDigest?: string
  /** What its jobs may ask for, in every try; decided when it was made. */
  readonly secrets: SecretScope
  /** Why it is not started before somebody lets its commit run. */
  readonly held?: string
  /** Who did. */
  readonly approval?: Approval
  /** A gate of it was passed by break-glass: stays for ever. */
  readonly broken?: { readonly gate: string; readonly by: string; readonly reason: string }
  readonly createdAt: number
  readonly startedAt?: number
  readonly finishedAt?: number
}

export interface Approval {
  readonly by: string
  readonly channel: string
}

export interface RunDetail extends RunRow {
  readonly plan?: Plan
  readonly progress: Progress
  readonly attempts: readonly AttemptRow[]
  readonly cancel?: { readonly by: string; readonly reason: string }
  readonly override?: { readonly by: string; readonly reason: string }
}

/** One attempt of a stage (`job` absent), job (`step` absent) or step; never changed after its outcome is there. */
export interface AttemptRow {
  readonly stage: string
  readonly job?: string
  readonly step?: number
  readonly name?: string
  readonly attempt: number
  readonly outcome?: Outcome
  readonly exitCode?: number
  readonly reason?: string
  readonly node?: string
  readonly service?: string
  readonly container?: string
  readonly startedAt: number
  readonly finishedAt?: number
  /** Steps: whether the stored log was proven complete. */
  readonly log?: LogProof
}

export type LogProof =
  | { readonly kind: 'complete'; readonly bytes: number; readonly lines: number }
  | { readonly kind: 'gap'; readonly storedBytes: number; readonly missingBytes?: number; readonly reason: string }

export interface Runs {
  get(repo: string, number: number): Promise<RunDetail | undefined>
  byNumber(number: number): Promise<RunDetail | undefined>
  /** Newest first. `before` is a run number (exclusive). */
  list(query: {
    readonly limit: number
    readonly before?: number
    readonly repo?: string
    readonly status?: RunStatus
    readonly ref?: string
    readonly commit?: string
  }): Promise<readonly RunRow[]>
  /** Who wrote and pushed these commits, or asked for them to be pulled, as was told when runs of them were made. */
  peopleBehind(repo: string, commits: readonly string[]): Promise<readonly Pick<Change, 'author' | 'pusher'>[]>
  /**
   * Runs that the database holds open (queued, running, waiting): for the reconciler and the sweep. Not those that are
   * held: nothing of them was ever started.
   */
  open(): Promise<readonly RunRow[]>
  setPlan(id: string, plan: Plan): Promise<void>
  /** What was proven about a step's log. The first `complete` stands. Throws for a step that has not begun. */
  recordLog(log: LogKey, proof: LogProof): Promise<void>
  /** Changes nothing once the run has ended: only `retry` opens it again. */
  setStatus(
    id: string,
    status: RunStatus,
    detail: { readonly stage?: string; readonly waiting?: Waiting; readonly reason?: string },
  ): Promise<void>
  /**
   * A new try of a run that ended failed, errored, canceled or skipped: number + 1, event `run.retried.v1`, outbox `start` (the
   * payload says it is a retry). Refused with `not_ended`, `succeeded` or `held`; `alreadyRetried` if `fromTry` is not
   * the newest, or this `cause` has brought a try before.
   */
  retry(
    id: string,
    fromTry: number,
    by: string,
    cause?: string,
  ): Promise<
    | { readonly kind: 'retried'; readonly try: number }
    | { readonly kind: 'refused'; readonly why: 'not_ended' | 'succeeded' | 'alreadyRetried' | 'held' | 'unknown' }
  >
  /**
   * Lets a run that is held start, with who did it, event and audit; one that was canceled meanwhile gets a new try. Of
   * the commit of the run only, and without a word on secrets: it starts with what it was made with.
   */
  admit(
    id: string,
    commit: string,
    by: string,
    channel: string,
  ): Promise<'admitted' | 'not_held' | 'another_commit' | 'unknown'>
  /** Records who and why, event, audit, outbox `cancel`. The first request stands. `false`: the run has ended. */
  requestCancel(id: string, by: string, reason: string): Promise<boolean>
  /** The commits to which runs of the repository have moved this branch, newest first, at most so many. */
  releases(repo: string, branch: string, most: number): Promise<readonly string[]>
  /** The newest run for exactly this commit on `ref` whose gate was approved, with its deliverables; else undefined. */
  releasedCandidate(repo: string, ref: string, commit: string): Promise<RunDetail | undefined>
}

// ---------------------------------------------------------------- events

export interface EventRow {
  readonly run: string
  readonly number: number
  /** Per run from 1, without gaps. */
  readonly seq: number
  /** Over all runs, ascending: a cursor for readers. */
  readonly position: number
  readonly at: number
  readonly event: RunEvent
}

export interface Events {
  /**
   * Appends in the given order and updates what is derived from events in the same transaction (attempts, progress,
   * deliverables, run status for run.started/run.finished). Idempotent by `key` (a string that names this append, for
   * example `acme/web#42/test/unit/1:finished`): the second call changes nothing.
   */
  append(run: string, key: string, events: readonly RunEvent[]): Promise<void>
  /** Several appends in one transaction, in their order. */
  appendAll(
    run: string,
    appends: readonly { readonly key: string; readonly events: readonly RunEvent[] }[],
  ): Promise<void>
  of(run: string, afterSeq?: number): Promise<readonly EventRow[]>
  since(position: number, limit: number): Promise<readonly EventRow[]>
}

// ---------------------------------------------------------------- gates and votes

export interface GateRow {
  readonly id: string
  readonly run: string
  readonly name: string
  readonly environment: string
  readonly rules: GateRules
  readonly subject: Subject
  readonly state: GateState
  readonly openedAt: number
  readonly decidedAt?: number
  /** Since when what it approved is being released, or has been: nobody can reject it any more. */
  readonly movingSince?: number
  /** What has changed since, if that is why it is void: `commit: 3f2a… → 9c1e…`. */
  readonly voided?: string
  /** The reminders that are out. */
  readonly reminded?: { readonly count: number; readonly at: number }
  readonly votes: readonly VoteRow[]
  readonly objections: readonly ObjectionRow[]
  /** It was passed by break-glass: stays for ever. */
  readonly broken?: BrokenGlass
  /** What somebody else said of that afterwards. Absent: nobody has yet. */
  readonly review?: Review
}

export interface BrokenGlass {
  readonly by: string
  readonly reason: string
  readonly channel: string
  readonly at: number
}

export interface Review {
  readonly by: string
  readonly comment: string
  readonly channel: string
  readonly at: number
}

export interface ObjectionRow extends Objection {
  /** Where it was said, for example `pull/7`. */
  readonly via: string
}

export interface VoteRow {
  readonly by: string
  readonly answer: Answer
  readonly comment?: string
  readonly channel: string
  readonly at: number
  readonly counts: boolean
  /** Why it does not count. */
  readonly why?: string
  /** What proved who it was. */
  readonly proof?: Proof
  /** What was filled in: of a vote that counts as it holds, of another as it came. */
  readonly fields?: FieldValues
  readonly breakGlass?: true
}

/** The rules of a gate with who has the right at this moment. */
export interface RulesNow {
  /** The gate's id: to another one they are not applied. */
  readonly gate: string
  readonly rules: GateRules
}

export interface Gates {
  /**
   * Opens (or finds) the gate of this run. If it was open or decided for another subject or by other rules, that is voided,
   * with what has changed, and its votes no longer count; for the same (a retry that changed nothing) votes and decision
   * are kept, and one that is open learns who belongs to its groups now. `lost`: why an approval that has moved nothing yet
   * holds no longer, which voids it, too.
   */
  open(
    run: string,
    name: string,
    environment: string,
    rules: GateRules,
    subject: Subject,
    lost?: string,
  ): Promise<GateRow>
  get(run: string, name: string): Promise<GateRow | undefined>
  ofRun(run: string): Promise<readonly GateRow[]>
  waiting(): Promise<readonly GateRow[]>
  /**
   * Single use, bound to gate, subject and person; stored hashed. The plain token is returned once. `proof`: how the
   * person was known when it was made; `token` unless said, for who takes it away to send it by hand.
   */
  mintToken(
    run: string,
    gate: string,
    person: string,
    channel: string,
    validMs: number,
    proof?: 'session' | 'forge' | 'token',
  ): Promise<string>
  /**
   * Judges one vote by the pure function in core and records it, counted or not, in the votes and in the audit, and
   * the gate's decision if it brings one. Idempotent by `key`. Without a valid token the vote is recorded and does not
   * count, unless `trustSignals`; and then only for the opening of the gate that it was sent for. None counts when the run
   * has ended.
   */
  vote(input: {
    readonly key: string
    readonly run: string
    readonly gate: string
    readonly answer: Answer
    readonly claimedBy: string
    readonly token?: string
    readonly comment?: string
    readonly channel: string
    readonly trustSignals: boolean
    /** As they came: anything. */
    readonly fields?: FieldValues
    /** The gate is to be passed by it, whoever else should approve. */
    readonly breakGlass?: boolean
    /** Who may do that now. */
    readonly operators?: readonly string[]
    /** Otherwise it is judged by the rules that the gate was last opened with. */
    readonly now?: RulesNow
    /** The gate's id that was open when it was sent; null: none was. Absent: nobody knows. */
    readonly about?: string | null
  }): Promise<{
    readonly verdict: Verdict
    readonly by: string
    readonly channel: string
    readonly counts: boolean
    readonly why?: string
  }>
  /** Whose token it is; undefined: none of ours. Uses it up in no way. */
  personOfToken(token: string): Promise<string | undefined>
  /** Every run that waits at a gate, or for an environment, looks anew, once by `key`: what it waits for may have changed. */
  wakeAll(key: string): Promise<void>
  /** Approves an open gate if it is by its votes, at this moment: what waited for its window passes. */
  settle(now: RulesNow): Promise<void>
  /**
   * What it approved is released from now on, and the event says so. False, and nothing has happened: it is not approved
   * any more. Whoever has come first stands: a rejection, or this.
   */
  moves(gate: string, key: string, event: RunEvent): Promise<boolean>
  /** It was not released after all, as the event says: it can be rejected again. */
  stays(gate: string, key: string, event: RunEvent): Promise<void>
  /** Its reminder of this number, from 1, is out: an event and an entry of the audit, once. */
  remind(gate: string, number: number, stillAsked: readonly string[]): Promise<void>
  /** Changes nothing before the gate's time is over by this clock, whatever another clock says; nor if enough have approved. */
  expire(run: string, gate: string, now?: RulesNow): Promise<void>
  /**
   * An operator lets a run of the production branch pass: a gate of it that is passed by break-glass, with all that follows
   * from that. Once for a person; a run that waits looks again.
   */
  override(input: {
    readonly run: string
    readonly environment: string
    readonly rules: GateRules
    readonly subject: Subject
    readonly by: string
    readonly reason: string
    readonly channel: string
  }): Promise<void>
  /** The newest gate of any run of this commit if it was rejected; undefined: it was not. */
  rejection(repo: string, commit: string): Promise<GateRow | undefined>
  /** Passed by break-glass, and not reviewed by anybody, oldest first. */
  toReview(): Promise<readonly GateRow[]>
  /** By the gate's id. The first review stands. Nobody reviews what they have done themselves. */
  review(gate: string, review: Omit<Review, 'at'>): Promise<'reviewed' | 'known' | 'not_broken' | 'own' | 'author'>
  /** By the gate's id. While it stands, an open gate is not approved. One a person; a gate that is decided takes none. */
  object(gate: string, objection: ObjectionRow): Promise<void>
  /** Takes back what this person has objected. If that was all that was missing, the gate is approved by it. */
  withdraw(gate: string, by: string): Promise<void>
}

export interface PromotionRow {
  /** The gate's id. */
  readonly gate: string
  readonly repo: string
  /** The branch that was made for it. */
  readonly branch: string
  readonly base: string
  /** The pull request that is, or was last, open for it. */
  readonly pull?: number
  /** Digest of what it was last made to say. */
  readonly written?: string
  /** Grows with everything that is begun for it. */
  readonly revision: number
}

/** What somebody has said at a forge, judged once. `why`: why it does not count. */
export interface BallotRow {
  readonly gate: string
  readonly why?: string
  /** It was cast, or answered. */
  readonly done: boolean
}

/** What was begun at forges for the promotion of a gate's commit, so that whoever comes after a kill can end it. */
export interface Promotions {
  /** Recorded before anything is made, each time. Returns what stands. */
  begin(input: Pick<PromotionRow, 'gate' | 'repo' | 'branch' | 'base'>): Promise<PromotionRow>
  wrote(gate: string, pull: number, digest: string): Promise<void>
  /** Branch and pull request are gone; nothing changes if more was begun since the row was read. */
  end(row: Pick<PromotionRow, 'gate' | 'revision'>): Promise<void>
  /** Begun and not ended, oldest first. */
  unended(repo: string): Promise<readonly PromotionRow[]>
  /** The newest that had this pull request, also an ended one. */
  ofPull(repo: string, pull: number): Promise<PromotionRow | undefined>
  ballot(repo: string, key: string): Promise<BallotRow | undefined>
  /** The first judgement on a key stands and is returned. */
  judged(repo: string, key: string, gate: string, why?: string): Promise<BallotRow>
  settled(repo: string, key: string): Promise<void>
  /** Undefined: the branch is this holder's for `ms`; else who has it. */
  hold(repo: string, branch: string, holder: string, ms: number): Promise<string | undefined>
  release(repo: string, branch: string, holder: string): Promise<void>
}

// ---------------------------------------------------------------- secrets that jobs were given

/** Sealed by the caller; kept as long as the job's run is open. */
export interface Masks {
  /** Idempotent by job and version. */
  keep(one: {
    readonly job: string
    readonly run: string
    readonly version: string
    readonly sealed: string
  }): Promise<void>
  of(job: string): Promise<readonly string[]>
  /** Of which something is kept. */
  runs(): Promise<readonly string[]>
  forget(run: string): Promise<void>
}

// ---------------------------------------------------------------- pools and environments

export type * from './pool-types.ts'

// ---------------------------------------------------------------- deployments

export type DeploymentState = 'intended' | 'done' | 'failed' | 'unknown'

export interface DeploymentRow {
  readonly id: number
  readonly repo: string
  readonly environment: string
  readonly run: string
  readonly try: number
  readonly commit: string
  readonly deliverable: string
  readonly digest: string
  /** Fencing number of the environment's lease. */
  readonly fence: number
  readonly state: DeploymentState
  readonly detail?: string
  readonly at: number
  readonly finishedAt?: number
}

export interface Deployments {
  /**
   * The intent, before acting. Idempotent by (run, environment, digest): returns the row that is there. Refused
   * (`stale`) if a higher fence has been recorded for this environment.
   */
  intend(
    input: Omit<DeploymentRow, 'id' | 'state' | 'at' | 'finishedAt' | 'detail'>,
  ): Promise<
    | { readonly kind: 'intended' | 'known'; readonly row: DeploymentRow }
    | { readonly kind: 'stale'; readonly current: DeploymentRow }
  >
  finish(id: number, state: Exclude<DeploymentState, 'intended'>, detail?: string): Promise<void>
  /** The newest finished as done on the environment. */
  current(repo: string, environment: string): Promise<DeploymentRow | undefined>
  list(query: {
    readonly repo?: string
    readonly environment?: string
    readonly limit: number
  }): Promise<readonly DeploymentRow[]>
}

// ---------------------------------------------------------------- outbox

export type OutboxMessage =
  /** Start the workflow of this try; cleared when the execution is seen. */
  | { readonly kind: 'start'; readonly run: string; readonly try: number; readonly retry: boolean }
  | { readonly kind: 'cancel'; readonly run: string }
  /** A unit is on its way to its next holder: somebody has to see to it. */
  | { readonly kind: 'care'; readonly pool: string; readonly unit: string }
  | { readonly kind: 'signal'; readonly workflowId: string; readonly signal: string; readonly args: readonly unknown[] }

export interface OutboxRow {
  readonly id: number
  readonly message: OutboxMessage
  readonly tries: number
  readonly createdAt: number
}

export interface Outbox {
  put(key: string, message: OutboxMessage): Promise<void>
  /** Messages due now, oldest first; each is hidden from other callers for `leaseMs`. */
  take(limit: number, leaseMs: number): Promise<readonly OutboxRow[]>
  done(id: number): Promise<void>
  /** Try again after `delayMs`. */
  failed(id: number, error: string, delayMs: number): Promise<void>
  pending(): Promise<readonly OutboxRow[]>
  /** Called in this process after each `put` (also those inside other operations): lets a dispatcher run at once. */
  onPut(listener: () => void): void
}

// ---------------------------------------------------------------- what forges show

export interface StateKey {
  readonly repo: string
  /** The commit, or `pull/12`. */
  readonly subject: string
  readonly kind: Reported['kind']
  readonly name: string
}

/** A state that its holder alone may send until the claim expires. */
export interface ClaimedState {
  readonly key: StateKey
  readonly reported: Reported
  readonly identity: string
  readonly revision: number
  /** Grows with every claim of this key. */
  readonly claim: number
  /** Of sending, this one included, since it last succeeded. */
  readonly tries: number
  readonly wantedAt: number
  readonly takenAt: number
  /** What the port has resolved with for the same identity. */
  readonly known?: string
}

/**
 * What each forge is to show, one row a key, and how much of it was sent. Only the newest state of a key is ever sent;
 * one sender at a time has a key, and a state whose request may have been overtaken by an older one is sent once more.
 */
export interface Reports {
  /** Runs but these that have changed since they were last recorded here, oldest first, with the version to record. */
  changed(limit: number, without?: readonly string[]): Promise<readonly RunVersion[]>
  /** Desires these states, where no state of higher rank is desired, and remembers the run as reported up to its version. */
  record(run: Omit<RunVersion, 'ref'>, states: readonly DesiredState[]): Promise<void>
  /** States to send now, each for this caller alone for `claimMs`. */
  take(limit: number, claimMs: number): Promise<readonly ClaimedState[]>
  /** The forge has taken it. */
  sent(claimed: ClaimedState, remote?: string): Promise<void>
  /** `isDoubtful`: it may yet take effect. `givesUp`: nothing more is sent before the state changes. */
  failed(
    claimed: ClaimedState,
    failure: {
      readonly error: string
      readonly delayMs: number
      readonly isDoubtful: boolean
      readonly givesUp?: boolean
    },
  ): Promise<void>
  /** Nothing is sent for the repository for so long: its forge has asked for that. */
  pause(repo: string, ms: number): Promise<void>
  unsent(): Promise<
    readonly (DesiredState & { readonly repo: string; readonly tries: number; readonly error?: string })[]
  >
  /**
   * What was brought to the forge about statuses and deployments, of so many commits after that one in their order;
   * only of runs that are open or have ended since then, and only the newest run's deployment of an environment.
   */
  brought(
    repo: string,
    of: { readonly endedSince: number; readonly after: string; readonly commits: number },
  ): Promise<readonly BroughtState[]>
  /** It is no longer there: it goes out again. `false`: it has changed or was sent since. */
  sendAgain(state: BroughtState): Promise<boolean>
  /** Forgets what runs that ended before have shown, at most so many. Returns how many there were. */
  forget(repo: string, endedBefore: number, limit: number): Promise<number>
}

/** A state that the forge has taken. */
export interface BroughtState {
  readonly key: StateKey
  readonly reported: Reported
  readonly revision: number
  readonly claim: number
  /** What the port has resolved with. */
  readonly remote?: string
  readonly run: number
}

export interface RunVersion {
  readonly id: string
  readonly repo: string
  readonly ref: string
  readonly number: number
  /** Grows with every change of the run. */
  readonly version: number
}

// ---------------------------------------------------------------- people, results

export interface TokenRow {
  readonly id: string
  readonly person: string
  readonly createdAt: number
  readonly expiresAt: number
  readonly lastUsedAt?: number
}

export interface People {
  /** Returns the plain token once; `pst_` + 32 random bytes (base64url). Only its sha256 is stored. */
  createToken(person: string, validMs: number): Promise<{ readonly token: string; readonly row: TokenRow }>
  /** The person of a live token, or undefined; constant-time by hash look-up. Marks it used (at most once a minute). */
  personOf(token: string): Promise<string | undefined>
  revokeToken(id: string): Promise<boolean>
  tokens(person?: string): Promise<readonly TokenRow[]>
}

export interface TestCase {
  readonly suite: string
  readonly name: string
  readonly className?: string
  readonly file?: string
  readonly line?: number
  readonly seconds?: number
  readonly result: 'passed' | 'failed' | 'errored' | 'skipped'
  readonly message?: string
}

export interface Results {
  /** Replaces the results of this job attempt. */
  put(job: JobKey, cases: readonly TestCase[]): Promise<void>
  ofRun(
    run: string,
  ): Promise<readonly (TestCase & { readonly stage: string; readonly job: string; readonly attempt: number })[]>
  /** Deliverables of the run, by name; the first record of a name in a try stands (built once). */
  deliverables(run: string): Promise<readonly Deliverable[]>
}

// ---------------------------------------------------------------- manual tests

export interface SessionRow {
  readonly key: JobKey
  readonly environment?: string
  /** Where what is to be tested can be reached. */
  readonly url?: string
  readonly by: ManualTest['by']
  readonly checklist: ManualTest['checklist']
  readonly subject: SessionSubject
  readonly units: readonly SessionUnit[]
  readonly state: SessionState
  readonly paused?: { readonly by: string; readonly reason: string }
  readonly openedAt: number
  readonly expiresAt: number
  readonly endedAt?: number
  readonly endedBy?: string
  readonly testers: readonly TesterRow[]
  /** In the order in which they were given; the last of an item stands. */
  readonly answers: readonly ItemAnswer[]
  /** What an earlier attempt had an answer to. */
  readonly askedAgain: readonly AskedAgain[]
  /** Files that were deleted, too. */
  readonly evidence: readonly EvidenceRow[]
}

/** `expiresAt`: when it has to be given back at the latest. */
export type SessionUnit = Pick<LeaseRow, 'pool' | 'unit' | 'properties' | 'expiresAt'>

export interface TesterRow {
  readonly person: string
  readonly since: number
  /** They have handed it over. */
  readonly until?: number
  readonly handedTo?: string
}

export interface EvidenceRow {
  /** Within the session, from 1. */
  readonly id: number
  /** Place in the checklist, from 1. */
  readonly item: number
  /** A label, never a path. */
  readonly name: string
  readonly digest: string
  readonly size: number
  readonly by: string
  readonly at: number
  /** The file was deleted. */
  readonly gone?: { readonly by: string; readonly at: number; readonly why?: string }
}

export type SessionChange =
  | { readonly kind: 'done'; readonly session: SessionRow }
  /** Nothing was changed; the sentence says why and what would be right. */
  | { readonly kind: 'refused'; readonly why: string }

/** Whoever does something in a session, as their channel has proven. Whether they may is asked before. */
export interface SessionActor {
  readonly by: string
  readonly channel: string
}

/**
 * Manual tests. Each change is one transaction with its event, its entry in the audit and a signal to the job's workflow;
 * done again it changes nothing. A session whose run has ended, or is about to be canceled, takes none. An item is its
 * place in the checklist, from 1; one that does not exist throws.
 */
export interface Sessions {
  /**
   * Once an attempt; says that the job has begun. What passed in an earlier attempt, about the same subject, by somebody
   * of `may`, is kept; why the rest is asked again is kept with it.
   */
  open(input: {
    readonly key: JobKey
    readonly environment?: string
    readonly url?: string
    readonly manual: ManualTest
    readonly subject: SessionSubject
    readonly units: readonly SessionUnit[]
    /** Who may test now. */
    readonly may: readonly string[]
  }): Promise<SessionRow>
  get(key: JobKey): Promise<SessionRow | undefined>
  ofRun(run: string): Promise<readonly SessionRow[]>
  /** Those that wait for somebody, oldest first. */
  waiting(): Promise<readonly SessionRow[]>
  join(key: JobKey, actor: SessionActor): Promise<SessionChange>
  /** Joins, too. Once answered, it can be answered again until the session ends. */
  answer(
    key: JobKey,
    actor: SessionActor,
    answer: { readonly item: number; readonly result: ItemResult; readonly comment?: string },
  ): Promise<SessionChange>
  attach(
    key: JobKey,
    actor: SessionActor,
    file: Pick<EvidenceRow, 'item' | 'name' | 'digest' | 'size'>,
  ): Promise<SessionChange>
  /**
   * Deletes a file of evidence. Whoever attached it: as long as the session is open, and no earlier attempt has it. An
   * operator: at any time, from every attempt of the job that has it. The bytes are the caller's to remove, after it.
   */
  deleteEvidence(
    key: JobKey,
    actor: SessionActor & { readonly isOperator: boolean },
    file: { readonly id: number; readonly why?: string },
  ): Promise<SessionChange>
  /** Digests of files that were deleted wherever they were. `of`: only these digests. */
  goneEvidence(of?: readonly string[]): Promise<readonly string[]>
  pause(key: JobKey, actor: SessionActor, reason: string): Promise<SessionChange>
  resume(key: JobKey, actor: SessionActor): Promise<SessionChange>
  /** To somebody who is a tester from then on instead. */
  handOver(key: JobKey, actor: SessionActor, to: string): Promise<SessionChange>
  /** Refused while a required item is open, or one whose last answer is not by somebody of `may`. */
  finish(key: JobKey, actor: SessionActor, may: readonly string[]): Promise<SessionChange>
  /** By the store's clock; nothing before its time. What is not by somebody of `may` is void then. Returns what stands. */
  expire(key: JobKey, may: readonly string[]): Promise<SessionRow | undefined>
}

// ---------------------------------------------------------------- nodes, audit

export interface NodeRow {
  readonly id: string
  readonly hostname: string
  readonly seenAt: number
}

export interface Nodes {
  seen(id: string, hostname: string): Promise<void>
  list(): Promise<readonly NodeRow[]>
}

export interface AuditRow {
  readonly id: number
  readonly at: number
  readonly by: string
  readonly channel: string
  readonly action: string
  readonly on: string
  readonly detail?: unknown
}

/** Append-only: the database refuses to change or remove an entry. */
export interface Audit {
  record(entry: {
    readonly by: string
    readonly channel: string
    readonly action: string
    readonly on: string
    readonly detail?: unknown
  }): Promise<void>
  /** In the order in which they were recorded. */
  list(query: {
    readonly limit: number
    /** Only entries with a greater id. */
    readonly after?: number
    /** Only entries up to this id. */
    readonly upTo?: number
    /** From this time on, and before that one. */
    readonly from?: number
    readonly until?: number
    /** Only what concerns this run. */
    readonly run?: string
  }): Promise<readonly AuditRow[]>
  /** Id of the newest entry; 0: there is none. */
  last(): Promise<number>
}
