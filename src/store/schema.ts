import { type Kysely, type Migration, PostgresAdapter, sql } from 'kysely'

/** Times are milliseconds since 1970; JSON is text, flags are 0 or 1: both dialects then behave alike. */
export interface Schema {
  deliveries: {
    source: string
    id: string
    body_digest: string
    event: string
    received_at: number
    outcome: 'run' | 'duplicate' | 'noted' | 'ignored'
    run_number: number | null
    reason: string | null
    repo: string | null
    /** Id of the notice that came of it. */
    notice: number | null
  }
  /** Repositories that were looked at at their forge, and since when. */
  sweeps: { repo: string; since: number }
  /** What a delivery meant, so that the same news under another id makes no second run. */
  meanings: {
    repo: string
    meaning: string
    run_number: number
    /** Of a move of a branch: which one, from where ('-': it was new; '?': nobody said) and where to; null otherwise. */
    ref: string | null
    before: string | null
    after: string | null
    /** When it happened, as the forge has it. */
    at: number | null
  }
  /** The commit a ref was last seen at; null: deleted. */
  branches: {
    repo: string
    ref: string
    commit_id: string | null
    seen_at: number
    /** When it moved there, as the forge has it. */
    at: number | null
    /** 1: seen at the forge, not told by a delivery. */
    looked: number
  }
  runs: {
    number: number
    id: string
    repo: string
    ref: string
    commit_id: string
    trigger: string
    status: string
    reason: string | null
    try: number
    stage: string | null
    waiting: string | null
    plan: string | null
    spec_digest: string | null
    cancel: string | null
    override: string | null
    created_at: number
    started_at: number | null
    finished_at: number | null
    /** Grows with every event and every change of what the run waits for. */
    version: number
    /** The version that forges were last told of. */
    reported: number
    secrets: 'repository' | 'none'
    /** What it is held for; null: nothing. */
    held: string | null
    /** Who let its commit run. */
    approval: string | null
    /** The gate that was passed by break-glass, by whom and why. Stays for ever. */
    broken: string | null
  }
  events: {
    position: number
    run: string
    number: number
    seq: number
    append_key: string
    at: number
    event: string
  }
  attempts: {
    run: string
    stage: string
    /** '' for an attempt of the stage. */
    job: string
    /** -1 for an attempt of the stage or job. */
    step: number
    attempt: number
    name: string | null
    outcome: string | null
    exit_code: number | null
    reason: string | null
    node: string | null
    service: string | null
    container: string | null
    started_at: number
    finished_at: number | null
    log: string | null
    position: number
  }
  deliverables: { run: string; name: string; try: number; kind: string; digest: string; reference: string }
  results: { run: string; stage: string; job: string; attempt: number; idx: number; test_case: string }
  outbox: {
    id: number
    message_key: string
    message: string
    tries: number
    created_at: number
    due_at: number
    done_at: number | null
    error: string | null
  }
  /** What a forge is to show under one key, and how much of it was sent. */
  forge_states: {
    repo: string
    subject: string
    kind: string
    name: string
    weight: number
    run_number: number
    version: number
    identity: string
    content: string
    revision: number
    wanted_at: number
    sent_revision: number
    due_at: number
    tries: number
    claim: number
    /** 0: nobody has it. */
    claimed_until: number
    /** What was sent before then is sent once more after it. */
    doubt_until: number
    remote: string | null
    error: string | null
  }
  forge_pauses: { repo: string; until: number }
  /** What forges have told; `done_at` null: nobody has looked into it yet. */
  notices: {
    id: number
    repo: string
    notice: string
    received_at: number
    due_at: number
    tries: number
    done_at: number | null
    outcome: string | null
    error: string | null
  }
  /** Wishes to merge; `done_at` null: not ended, or its end has not been told. */
  merges: {
    id: number
    repo: string
    pull_request: number
    commit_id: string
    /** Names what asked: the same is never asked twice. */
    ask_key: string
    by: string
    channel: string
    asked_at: number
    state: string
    why: string | null
    ended_at: number | null
    told: string | null
    due_at: number
    tries: number
    claim: number
    /** 0: nobody has it. */
    claimed_until: number
    done_at: number | null
  }
  /** What stands against the approval of a gate, one a person. */
  objections: { gate: string; by: string; why: string; via: string; at: number }
  promotions: {
    gate: string
    repo: string
    branch: string
    base: string
    pull: number | null
    /** Digest of what the pull request was last made to say. */
    written: string | null
    /** Grows with everything that is begun: what is made meanwhile is not taken for removed. */
    revision: number
    begun_at: number
    ended_at: number | null
  }
  /** What people have said at a forge about a gate, and what was made of it. */
  ballots: { repo: string; key: string; gate: string; why: string | null; at: number; done_at: number | null }
  /** Who is moving a branch now. */
  branch_holds: { repo: string; branch: string; holder: string; until: number }
  /** Manual tests, one row an attempt of a job; `id` is the job's. */
  manual_sessions: {
    id: string
    run: string
    stage: string
    job: string
    attempt: number
    environment: string | null
    url: string | null
    /** JSON: who may answer, as the spec has it. */
    by: string
    checklist: string
    subject: string
    /** JSON: what is leased for it. */
    units: string
    state: string
    /** JSON: by whom and why. */
    paused: string | null
    /** JSON: what was answered in an earlier attempt and is asked again, and why. */
    asked_again: string
    /** Grows with every change. */
    revision: number
    opened_at: number
    expires_at: number
    ended_at: number | null
    ended_by: string | null
  }
  /** `until`: they have handed it over. */
  manual_testers: { session: string; person: string; since: number; until: number | null; handed_to: string | null }
  /** Every answer that was given; the last one of an item stands. */
  manual_answers: {
    session: string
    seq: number
    item: number
    result: string
    by: string
    comment: string | null
    at: number
    /** The earlier attempt it was given in. */
    kept_from: number | null
    /** Why it did not count when the session expired. */
    void_why: string | null
  }
  /** Files by their content; `gone`: JSON, by whom, when and why the file was deleted. */
  manual_evidence: {
    session: string
    seq: number
    item: number
    name: string
    digest: string
    size: number
    by: string
    at: number
    gone: string | null
  }
  gates: {
    id: string
    run: string
    name: string
    /** Grows when another subject (or a new chance after expiry) replaces the gate. */
    version: number
    environment: string
    rules: string
    subject: string
    state: string
    opened_at: number
    decided_at: number | null
    /** Who passed it by break-glass, and why; null: nobody. Never changed. */
    broken: string | null
    /** Who has looked at that afterwards, and what they say of it. */
    review: string | null
    /** What has changed since, if that is why it is void. */
    voided: string | null
    /** How many of its reminders are out, and when the last one went. */
    reminded: number
    reminded_at: number | null
    /** Since when what it approved is being released, or has been; null: it is not. */
    moving_since: number | null
  }
  votes: {
    gate: string
    seq: number
    vote_key: string
    run: string
    gate_name: string
    by: string
    answer: string
    comment: string | null
    channel: string
    at: number
    counts: number
    why: string | null
    /** What proved who it was; null: recorded before this was kept. */
    proof: string | null
    /** What was filled in, by name of the field. */
    fields: string | null
    break_glass: number
  }
  vote_tokens: {
    hash: string
    gate: string
    person: string
    channel: string
    created_at: number
    expires_at: number
    used_at: number | null
    /** What proved the person it was made for; null: made before this was kept. */
    proof: string | null
  }
  /** `source` `file`: from the operator's file, which alone may change it. */
  pools: { pool: string; settings: string; source: 'file' | 'api'; gone: number }
  units: {
    pool: string
    unit: string
    labels: string
    properties: string
    fence: number
    /** Nobody has it any more, neither the operator's file nor the API; the row stays for its fence. */
    gone: number
    quarantined: string | null
    notes: string | null
    capacity: number
    reset_cost: number
    source: 'file' | 'api'
    /** How far it is on its way to the next holder; `ready`: free, or held; `clearing`: free when nothing of its hand-over runs. */
    phase: 'ready' | 'resetting' | 'probing' | 'clearing'
    /** Failures of reset and probe in a row. */
    failures: number
    /** Grows with every try of a reset or probe: names its container. */
    tries: number
    /** When the next try is due. */
    due_at: number
    /** 1: a container of its hand-over is on a node that cannot be reached. */
    stranded: number
    /** `{ at, outcome }` of the newest that ended. */
    last_reset: string | null
    last_probe: string | null
    service: 'in_service' | 'draining' | 'maintenance'
    service_by: string | null
    service_reason: string | null
  }
  leases: {
    pool: string
    unit: string
    holder: string
    run: string
    fence: number
    since: number
    expires_at: number
    mode: 'shared' | 'exclusive'
    /** The repository or person whose share it counts to. */
    party: string
    /** Of the job, the same in every run: `acme/web e2e/browser`; null: no job. */
    work: string | null
    asked_at: number
    /** The node of the holder's container, once it has been heard from there; null: nothing of it has run yet. */
    node: string | null
    heard_at: number | null
    /** Set: its holder has ended, and it is not proved yet that the holder's container is gone. */
    ended_at: number | null
    outcome: string | null
    /** Why the holder has to stop. */
    revoked: string | null
    warned: number
    /** 1: its node has been silent for too long. */
    silent: number
  }
  /** What has been held, for statistics. */
  holds: {
    id: number
    pool: string
    unit: string
    holder: string
    party: string
    work: string | null
    asked_at: number
    since: number
    ended_at: number
    outcome: string | null
  }
  requests: {
    holder: string
    run: string
    workflow_id: string
    requests: string
    priority: number
    ttl_ms: number
    supersedes: string | null
    state: 'waiting' | 'granted' | 'superseded'
    superseded_by: string | null
    seq: number
    since: number
    party: string
    work: string | null
  }
  /** What people have asked for. */
  reservations: {
    id: string
    person: string
    pool: string
    note: string | null
    for_ms: number
    asked_at: number
    ended_at: number | null
    /** How it ended: given back, expired, taken by …. */
    why: string | null
  }
  deployments: {
    id: number
    repo: string
    environment: string
    run: string
    try: number
    commit_id: string
    deliverable: string
    digest: string
    fence: number
    state: string
    detail: string | null
    at: number
    finished_at: number | null
  }
  tokens: {
    id: string
    person: string
    hash: string
    created_at: number
    expires_at: number
    last_used_at: number | null
    revoked_at: number | null
  }
  /** What jobs of open runs were given, sealed: a changed secret stays masked in their logs. */
  masks: { job: string; version: string; run: string; sealed: string }
  nodes: { id: string; hostname: string; seen_at: number }
  audit: { id: number; at: number; by: string; channel: string; action: string; on: string; detail: string | null }
}

type Columns = Readonly<Record<string, 'text' | 'text?' | 'bigint' | 'bigint?'>>

async function table(db: Kysely<unknown>, name: string, columns: Columns, key: readonly string[]): Promise<void> {
  let builder = db.schema.createTable(name)
  for (const [column, kind] of Object.entries(columns)) {
    builder = builder.addColumn(column, kind.startsWith('text') ? 'text' : 'bigint', (c) =>
      kind.endsWith('?') ? c : c.notNull(),
    )
  }
  await builder.addPrimaryKeyConstraint(`${name}_pk`, key as never[]).execute()
}

async function unique(db: Kysely<unknown>, name: string, columns: string[]): Promise<void> {
  await db.schema
    .createIndex(`${name}_${columns.join('_')}`)
    .on(name)
    .columns(columns)
    .unique()
    .execute()
}

async function index(db: Kysely<unknown>, name: string, columns: string[]): Promise<void> {
  await db.schema
    .createIndex(`${name}_${columns.join('_')}`)
    .on(name)
    .columns(columns)
    .execute()
}

/** What stands in the audit stays as it is: the database itself refuses whoever would change it, us included. */
async function appendOnly(db: Kysely<unknown>): Promise<void> {
  const why = 'the audit is append-only'
  if (db.getExecutor().adapter instanceof PostgresAdapter) {
    await sql`create function audit_is_append_only() returns trigger language plpgsql as ${sql.lit(
      `begin raise exception '${why}'; end`,
    )}`.execute(db)
    await sql`create trigger audit_append_only before update or delete or truncate on audit
      for each statement execute function audit_is_append_only()`.execute(db)
    return
  }
  for (const change of ['update', 'delete']) {
    await sql`create trigger ${sql.ref(`audit_no_${change}`)} before ${sql.raw(change)} on audit
      begin select raise(abort, ${sql.lit(why)}); end`.execute(db)
  }
  // `insert or replace` deletes without telling the trigger above.
  await sql`create trigger audit_no_replace before insert on audit
    when exists (select 1 from audit where id = new.id)
    begin select raise(abort, ${sql.lit(why)}); end`.execute(db)
}

/** Applied once each, in the order of their names, and never changed after a release. */
export const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '001_start': {
    async up(db: Kysely<unknown>): Promise<void> {
      await table(
        db,
        'deliveries',
        {
          source: 'text',
          id: 'text',
          body_digest: 'text',
          event: 'text',
          received_at: 'bigint',
          outcome: 'text',
          run_number: 'bigint?',
          reason: 'text?',
        },
        ['source', 'id'],
      )
      await table(db, 'meanings', { repo: 'text', meaning: 'text', run_number: 'bigint' }, ['repo', 'meaning'])
      await table(db, 'branches', { repo: 'text', ref: 'text', commit_id: 'text?', seen_at: 'bigint' }, ['repo', 'ref'])
      await table(
        db,
        'runs',
        {
          number: 'bigint',
          id: 'text',
          repo: 'text',
          ref: 'text',
          commit_id: 'text',
          trigger: 'text',
          status: 'text',
          reason: 'text?',
          try: 'bigint',
          stage: 'text?',
          waiting: 'text?',
          plan: 'text?',
          spec_digest: 'text?',
          cancel: 'text?',
          override: 'text?',
          created_at: 'bigint',
          started_at: 'bigint?',
          finished_at: 'bigint?',
        },
        ['number'],
      )
      await unique(db, 'runs', ['id'])
      await index(db, 'runs', ['status'])
      await index(db, 'runs', ['repo', 'ref', 'commit_id'])
      await table(
        db,
        'events',
        {
          position: 'bigint',
          run: 'text',
          number: 'bigint',
          seq: 'bigint',
          append_key: 'text',
          at: 'bigint',
          event: 'text',
        },
        ['position'],
      )
      await unique(db, 'events', ['run', 'seq'])
      await index(db, 'events', ['run', 'append_key'])
      await table(
        db,
        'attempts',
        {
          run: 'text',
          stage: 'text',
          job: 'text',
          step: 'bigint',
          attempt: 'bigint',
          name: 'text?',
          outcome: 'text?',
          exit_code: 'bigint?',
          reason: 'text?',
          node: 'text?',
          service: 'text?',
          container: 'text?',
          started_at: 'bigint',
          finished_at: 'bigint?',
          log: 'text?',
          position: 'bigint',
        },
        ['run', 'stage', 'job', 'step', 'attempt'],
      )
      await table(
        db,
        'deliverables',
        { run: 'text', name: 'text', try: 'bigint', kind: 'text', digest: 'text', reference: 'text' },
        ['run', 'name', 'try'],
      )
      await table(
        db,
        'results',
        { run: 'text', stage: 'text', job: 'text', attempt: 'bigint', idx: 'bigint', test_case: 'text' },
        ['run', 'stage', 'job', 'attempt', 'idx'],
      )
      await table(
        db,
        'outbox',
        {
          id: 'bigint',
          message_key: 'text',
          message: 'text',
          tries: 'bigint',
          created_at: 'bigint',
          due_at: 'bigint',
          done_at: 'bigint?',
          error: 'text?',
        },
        ['id'],
      )
      await unique(db, 'outbox', ['message_key'])
      await index(db, 'outbox', ['done_at', 'id'])
      await table(
        db,
        'gates',
        {
          id: 'text',
          run: 'text',
          name: 'text',
          version: 'bigint',
          environment: 'text',
          rules: 'text',
          subject: 'text',
          state: 'text',
          opened_at: 'bigint',
          decided_at: 'bigint?',
        },
        ['id'],
      )
      await unique(db, 'gates', ['run', 'name', 'version'])
      await index(db, 'gates', ['state'])
      await table(
        db,
        'votes',
        {
          gate: 'text',
          seq: 'bigint',
          vote_key: 'text',
          run: 'text',
          gate_name: 'text',
          by: 'text',
          answer: 'text',
          comment: 'text?',
          channel: 'text',
          at: 'bigint',
          counts: 'bigint',
          why: 'text?',
        },
        ['gate', 'seq'],
      )
      await unique(db, 'votes', ['run', 'gate_name', 'vote_key'])
      await table(
        db,
        'vote_tokens',
        {
          hash: 'text',
          gate: 'text',
          person: 'text',
          channel: 'text',
          created_at: 'bigint',
          expires_at: 'bigint',
          used_at: 'bigint?',
        },
        ['hash'],
      )
      await table(
        db,
        'units',
        {
          pool: 'text',
          unit: 'text',
          labels: 'text',
          properties: 'text',
          fence: 'bigint',
          gone: 'bigint',
          quarantined: 'text?',
        },
        ['pool', 'unit'],
      )
      await table(
        db,
        'leases',
        {
          pool: 'text',
          unit: 'text',
          holder: 'text',
          run: 'text',
          fence: 'bigint',
          since: 'bigint',
          expires_at: 'bigint',
        },
        ['pool', 'unit'],
      )
      await index(db, 'leases', ['holder'])
      await table(
        db,
        'requests',
        {
          holder: 'text',
          run: 'text',
          workflow_id: 'text',
          requests: 'text',
          priority: 'bigint',
          ttl_ms: 'bigint',
          supersedes: 'text?',
          state: 'text',
          superseded_by: 'text?',
          seq: 'bigint',
          since: 'bigint',
        },
        ['holder'],
      )
      await table(
        db,
        'deployments',
        {
          id: 'bigint',
          repo: 'text',
          environment: 'text',
          run: 'text',
          try: 'bigint',
          commit_id: 'text',
          deliverable: 'text',
          digest: 'text',
          fence: 'bigint',
          state: 'text',
          detail: 'text?',
          at: 'bigint',
          finished_at: 'bigint?',
        },
        ['id'],
      )
      await index(db, 'deployments', ['repo', 'environment', 'fence'])
      await table(
        db,
        'tokens',
        {
          id: 'text',
          person: 'text',
          hash: 'text',
          created_at: 'bigint',
          expires_at: 'bigint',
          last_used_at: 'bigint?',
          revoked_at: 'bigint?',
        },
        ['id'],
      )
      await unique(db, 'tokens', ['hash'])
      await table(db, 'nodes', { id: 'text', hostname: 'text', seen_at: 'bigint' }, ['id'])
      await table(
        db,
        'audit',
        { id: 'bigint', at: 'bigint', by: 'text', channel: 'text', action: 'text', on: 'text', detail: 'text?' },
        ['id'],
      )
    },
  },
  '002_forge_states': {
    async up(db: Kysely<unknown>): Promise<void> {
      for (const column of ['version', 'reported']) {
        await db.schema
          .alterTable('runs')
          .addColumn(column, 'bigint', (c) => c.notNull().defaultTo(0))
          .execute()
      }
      await sql`create index runs_unreported on runs (number) where version > reported`.execute(db)
      await table(
        db,
        'forge_states',
        {
          repo: 'text',
          subject: 'text',
          kind: 'text',
          name: 'text',
          weight: 'bigint',
          run_number: 'bigint',
          version: 'bigint',
          identity: 'text',
          content: 'text',
          revision: 'bigint',
          wanted_at: 'bigint',
          sent_revision: 'bigint',
          due_at: 'bigint',
          tries: 'bigint',
          claim: 'bigint',
          claimed_until: 'bigint',
          doubt_until: 'bigint',
          remote: 'text?',
          error: 'text?',
        },
        ['repo', 'subject', 'kind', 'name'],
      )
      await sql`create index forge_states_due on forge_states (due_at) where sent_revision < revision`.execute(db)
      await table(db, 'forge_pauses', { repo: 'text', until: 'bigint' }, ['repo'])
    },
  },
  // The moves of one branch were looked for in the texts of all meanings of its repository.
  '003_moves': {
    async up(db: Kysely<Schema>): Promise<void> {
      for (const column of ['ref', 'before', 'after']) {
        await db.schema.alterTable('meanings').addColumn(column, 'text').execute()
      }
      for (const end of ['before', 'after'])
        await sql`create index ${sql.ref(`meanings_${end}`)} on meanings (repo, ref, ${sql.ref(end)})`.execute(db)
      for (const { repo, meaning } of await db.selectFrom('meanings').select(['repo', 'meaning']).execute()) {
        const [kind, ref = null, before = null, after = null] = meaning.split(' ')
        if (kind !== 'push') continue
        await db
          .updateTable('meanings')
          .set({ ref, before, after })
          .where('repo', '=', repo)
          .where('meaning', '=', meaning)
          .execute()
      }
    },
  },
  '004_notices': {
    async up(db: Kysely<unknown>): Promise<void> {
      await table(
        db,
        'notices',
        {
          id: 'bigint',
          repo: 'text',
          notice: 'text',
          received_at: 'bigint',
          due_at: 'bigint',
          tries: 'bigint',
          done_at: 'bigint?',
          outcome: 'text?',
          error: 'text?',
        },
        ['id'],
      )
      await sql`create index notices_due on notices (due_at) where done_at is null`.execute(db)
    },
  },
  '005_merges': {
    async up(db: Kysely<unknown>): Promise<void> {
      await table(
        db,
        'merges',
        {
          id: 'bigint',
          repo: 'text',
          pull_request: 'bigint',
          commit_id: 'text',
          ask_key: 'text',
          by: 'text',
          channel: 'text',
          asked_at: 'bigint',
          state: 'text',
          why: 'text?',
          ended_at: 'bigint?',
          told: 'text?',
          due_at: 'bigint',
          tries: 'bigint',
          claim: 'bigint',
          claimed_until: 'bigint',
          done_at: 'bigint?',
        },
        ['id'],
      )
      await unique(db, 'merges', ['repo', 'ask_key'])
      await sql`create index merges_open on merges (repo) where done_at is null`.execute(db)
      await index(db, 'runs', ['repo', 'commit_id'])
    },
  },
  '006_promotions': {
    async up(db: Kysely<unknown>): Promise<void> {
      await table(db, 'objections', { gate: 'text', by: 'text', why: 'text', via: 'text', at: 'bigint' }, [
        'gate',
        'by',
      ])
      await table(
        db,
        'promotions',
        {
          gate: 'text',
          repo: 'text',
          branch: 'text',
          base: 'text',
          pull: 'bigint?',
          written: 'text?',
          revision: 'bigint',
          begun_at: 'bigint',
          ended_at: 'bigint?',
        },
        ['gate'],
      )
      await index(db, 'promotions', ['repo', 'pull'])
      await table(
        db,
        'ballots',
        { repo: 'text', key: 'text', gate: 'text', why: 'text?', at: 'bigint', done_at: 'bigint?' },
        ['repo', 'key'],
      )
      await table(db, 'branch_holds', { repo: 'text', branch: 'text', holder: 'text', until: 'bigint' }, [
        'repo',
        'branch',
      ])
    },
  },
  // Until then only people with write access could start a run.
  '007_admissions': {
    async up(db: Kysely<unknown>): Promise<void> {
      const runs = () => db.schema.alterTable('runs')
      await runs()
        .addColumn('secrets', 'text', (c) => c.notNull().defaultTo('repository'))
        .execute()
      for (const column of ['held', 'approval']) await runs().addColumn(column, 'text').execute()
    },
  },
  '008_sweeps': {
    async up(db: Kysely<unknown>): Promise<void> {
      await table(db, 'sweeps', { repo: 'text', since: 'bigint' }, ['repo'])
      for (const name of ['branches', 'meanings']) await db.schema.alterTable(name).addColumn('at', 'bigint').execute()
      await db.schema
        .alterTable('branches')
        .addColumn('looked', 'bigint', (c) => c.notNull().defaultTo(0))
        .execute()
      await db.schema.alterTable('deliveries').addColumn('repo', 'text').execute()
      await db.schema.alterTable('deliveries').addColumn('notice', 'bigint').execute()
      await index(db, 'deliveries', ['received_at'])
      await index(db, 'meanings', ['run_number'])
    },
  },
  '009_gate_rules': {
    async up(db: Kysely<unknown>): Promise<void> {
      const gates = () => db.schema.alterTable('gates')
      await gates().addColumn('voided', 'text').execute()
      await gates()
        .addColumn('reminded', 'bigint', (c) => c.notNull().defaultTo(0))
        .execute()
      await gates().addColumn('reminded_at', 'bigint').execute()
    },
  },
  '010_gate_answers': {
    async up(db: Kysely<unknown>): Promise<void> {
      const add = (table: string, column: string) => db.schema.alterTable(table).addColumn(column, 'text').execute()
      for (const column of ['broken', 'review']) await add('gates', column)
      for (const column of ['proof', 'fields']) await add('votes', column)
      await add('vote_tokens', 'proof')
      await add('runs', 'broken')
      await db.schema
        .alterTable('votes')
        .addColumn('break_glass', 'bigint', (c) => c.notNull().defaultTo(0))
        .execute()
      await sql`create index gates_to_review on gates (id) where broken is not null and review is null`.execute(db)
      await appendOnly(db)
    },
  },
  '011_manual_sessions': {
    async up(db: Kysely<unknown>): Promise<void> {
      await table(
        db,
        'manual_sessions',
        {
          id: 'text',
          run: 'text',
          stage: 'text',
          job: 'text',
          attempt: 'bigint',
          environment: 'text?',
          url: 'text?',
          by: 'text',
          checklist: 'text',
          subject: 'text',
          units: 'text',
          state: 'text',
          paused: 'text?',
          revision: 'bigint',
          opened_at: 'bigint',
          expires_at: 'bigint',
          ended_at: 'bigint?',
          ended_by: 'text?',
        },
        ['id'],
      )
      await index(db, 'manual_sessions', ['run'])
      await sql`create index manual_sessions_open on manual_sessions (opened_at) where ended_at is null`.execute(db)
      await table(
        db,
        'manual_testers',
        { session: 'text', person: 'text', since: 'bigint', until: 'bigint?', handed_to: 'text?' },
        ['session', 'person'],
      )
      await table(
        db,
        'manual_answers',
        {
          session: 'text',
          seq: 'bigint',
          item: 'bigint',
          result: 'text',
          by: 'text',
          comment: 'text?',
          at: 'bigint',
          kept_from: 'bigint?',
        },
        ['session', 'seq'],
      )
      await table(
        db,
        'manual_evidence',
        {
          session: 'text',
          seq: 'bigint',
          item: 'bigint',
          name: 'text',
          digest: 'text',
          size: 'bigint',
          by: 'text',
          at: 'bigint',
        },
        ['session', 'seq'],
      )
    },
  },
  // Until then a unit had one holder, and was free as soon as that had ended.
  '012_pools': {
    async up(typed: Kysely<Schema>): Promise<void> {
      const db = typed as unknown as Kysely<unknown>
      await table(db, 'pools', { pool: 'text', settings: 'text', source: 'text', gone: 'bigint' }, ['pool'])
      const numbers = { capacity: 1, reset_cost: 0, failures: 0, tries: 0, due_at: 0 }
      for (const [column, value] of Object.entries(numbers)) {
        await db.schema
          .alterTable('units')
          .addColumn(column, 'bigint', (c) => c.notNull().defaultTo(value))
          .execute()
      }
      const texts = { source: 'file', phase: 'ready', service: 'in_service' }
      for (const [column, value] of Object.entries(texts)) {
        await db.schema
          .alterTable('units')
          .addColumn(column, 'text', (c) => c.notNull().defaultTo(value))
          .execute()
      }
      for (const column of ['notes', 'service_by', 'service_reason']) {
        await db.schema.alterTable('units').addColumn(column, 'text').execute()
      }
      await db.schema
        .alterTable('requests')
        .addColumn('party', 'text', (c) => c.notNull().defaultTo(''))
        .execute()
      await db.schema.alterTable('requests').addColumn('work', 'text').execute()

      // Several may hold one unit: the key grows, for which both databases want a new table.
      const leases = await typed.selectFrom('leases').selectAll().execute()
      await db.schema.dropTable('leases').execute()
      await table(
        db,
        'leases',
        {
          pool: 'text',
          unit: 'text',
          holder: 'text',
          run: 'text',
          fence: 'bigint',
          since: 'bigint',
          expires_at: 'bigint',
          mode: 'text',
          party: 'text',
          work: 'text?',
          asked_at: 'bigint',
          node: 'text?',
          heard_at: 'bigint?',
          ended_at: 'bigint?',
          outcome: 'text?',
          revoked: 'text?',
          warned: 'bigint',
          silent: 'bigint',
        },
        ['pool', 'unit', 'holder'],
      )
      await index(db, 'leases', ['holder'])
      await index(db, 'leases', ['run'])
      for (const lease of leases) {
        await typed
          .insertInto('leases')
          .values({
            ...lease,
            ...{ mode: 'exclusive', party: '', work: null, asked_at: lease.since, node: null, heard_at: null },
            ...{ ended_at: null, outcome: null, revoked: null, warned: 0, silent: 0 },
          })
          .execute()
      }
      await table(
        db,
        'holds',
        {
          id: 'bigint',
          pool: 'text',
          unit: 'text',
          holder: 'text',
          party: 'text',
          work: 'text?',
          asked_at: 'bigint',
          since: 'bigint',
          ended_at: 'bigint',
          outcome: 'text?',
        },
        ['id'],
      )
      await index(db, 'holds', ['pool', 'ended_at'])
      await table(
        db,
        'reservations',
        {
          id: 'text',
          person: 'text',
          pool: 'text',
          note: 'text?',
          for_ms: 'bigint',
          asked_at: 'bigint',
          ended_at: 'bigint?',
          why: 'text?',
        },
        ['id'],
      )
    },
  },
  '013_unit_care': {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema
        .alterTable('units')
        .addColumn('stranded', 'bigint', (c) => c.notNull().defaultTo(0))
        .execute()
    },
  },
  '014_pool_repairs': {
    async up(db: Kysely<unknown>): Promise<void> {
      for (const column of ['last_reset', 'last_probe']) {
        await db.schema.alterTable('units').addColumn(column, 'text').execute()
      }
      await table(db, 'masks', { job: 'text', version: 'text', run: 'text', sealed: 'text' }, ['job', 'version'])
      await index(db, 'masks', ['run'])
    },
  },
  '015_manual_tests': {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema
        .alterTable('manual_sessions')
        .addColumn('asked_again', 'text', (c) => c.notNull().defaultTo('[]'))
        .execute()
      await db.schema.alterTable('manual_answers').addColumn('void_why', 'text').execute()
      await db.schema.alterTable('manual_evidence').addColumn('gone', 'text').execute()
      await index(db, 'manual_evidence', ['digest'])
    },
  },
  '016_gate_moves': {
    async up(db: Kysely<unknown>): Promise<void> {
      await db.schema.alterTable('gates').addColumn('moving_since', 'bigint').execute()
    },
  },
}
