import { createHash } from 'node:crypto'
import express, { type Request, type Response, type Router } from 'express'
import type { Logger } from 'pino'
import { problem, sendProblem } from '../api/problem.ts'
import { excludedOf } from '../config/people.ts'
import type { Config, ForgeConfig, RepositoryConfig } from '../config/types.ts'
import { admit, ON_A_BRANCH } from '../core/admission.ts'
import { branchName, isFullCommit, type Trigger } from '../core/change.ts'
import { isPromotionBranch } from '../core/ids.ts'
import { unreachable } from '../core/unreachable.ts'
import { parseGit } from '../forge/git/payload.ts'
import { parseGitea } from '../forge/gitea/payload.ts'
import { parseGithub } from '../forge/github/payload.ts'
import { parseGitlab } from '../forge/gitlab/payload.ts'
import type { Parse } from '../forge/incoming.ts'
import { JsonRefused, parseJson } from '../forge/json.ts'
import type { Audit, Deliveries, NewDelivery, Recorded } from '../store/types.ts'
import { BODY_LIMITS, type BodyLimits, createBodyReader } from './body.ts'
import {
  bareSignature,
  first,
  type GiveHeader,
  githubSignature,
  gitlabProof,
  type Proof,
  penstockSignature,
} from './proof.ts'

export interface WebhookDeps {
  readonly config: Config
  readonly store: { readonly deliveries: Deliveries; readonly audit: Audit }
  readonly log: Logger
  readonly limits?: BodyLimits
}

interface Door {
  readonly kind: ForgeConfig['kind']
  /** What the headers bring to prove that the body is from somebody who has a secret of ours. */
  readonly proof: (header: GiveHeader) => Proof
  /** Headers, the first that is there counts. */
  readonly delivery: readonly string[]
  readonly event: readonly string[]
  readonly defaultEvent?: string
  readonly parse: Parse
}

const DOORS: readonly Door[] = [
  {
    kind: 'github',
    proof: githubSignature,
    delivery: ['x-github-delivery'],
    event: ['x-github-event'],
    parse: parseGithub,
  },
  {
    kind: 'gitea',
    proof: bareSignature('x-gitea-signature', 'x-forgejo-signature'),
    delivery: ['x-gitea-delivery', 'x-forgejo-delivery'],
    event: ['x-gitea-event', 'x-forgejo-event'],
    parse: parseGitea,
  },
  {
    kind: 'gitlab',
    proof: gitlabProof,
    // A retry keeps the first; the second is another for each try (older versions have no more).
    delivery: ['idempotency-key', 'x-gitlab-webhook-uuid'],
    event: ['x-gitlab-event'],
    parse: parseGitlab,
  },
  {
    kind: 'git',
    proof: penstockSignature,
    delivery: ['x-penstock-delivery'],
    event: ['x-penstock-event'],
    defaultEvent: 'push',
    parse: parseGit,
  },
]

const DELIVERY_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/
/** `push`, and GitLab's `Merge Request Hook`. */
const EVENT = /^[A-Za-z][A-Za-z0-9_ ]{0,63}$/
/** The same for a repository that is unknown and for one that another's secret has signed for. */
const NOT_YOURS = 'the repository in the payload is not one that this signature is good for'

/**
 * `POST /hooks/<forge>` (also with `/<owner>/<repo>` behind). Nothing is parsed or written before the sender has proven to
 * have a secret of the repository; the answer is sent after the store's transaction.
 */
export function createWebhookRouter({ config, store, log, limits = BODY_LIMITS }: WebhookDeps): Router {
  const router = express.Router({ caseSensitive: true })
  const readBody = createBodyReader(limits)
  for (const door of DOORS) {
    const repositories = Object.values(config.repositories).filter((one) => one.forge.kind === door.kind)
    const receive = (request: Request, response: Response) => handle(door, repositories, request, response)
    for (const path of [`/hooks/${door.kind}`, `/hooks/${door.kind}/*name`]) {
      router.post(path, receive)
      router.all(path, (request, response) => {
        sendProblem(response, problem(405, `a delivery comes by POST, not ${request.method}`), { Allow: 'POST' })
      })
    }
  }
  return router

  async function handle(
    door: Door,
    all: readonly RepositoryConfig[],
    request: Request,
    response: Response,
  ): Promise<void> {
    const refuse = (status: number, detail: string, headers: Record<string, string> = {}): void => {
      log.warn({ door: door.kind, status, detail, address: request.socket.remoteAddress }, 'delivery refused')
      sendProblem(response, problem(status, detail), headers)
    }
    // What follows from the headers alone is said before the body is read.
    const header: GiveHeader = (name) => request.get(name)
    const proof = door.proof(header)
    if (proof.kind === 'none') return refuse(401, proof.why)
    if (request.get('content-type')?.split(';')[0]?.trim().toLowerCase() !== 'application/json') {
      return refuse(415, 'set the content type of the webhook to application/json')
    }
    if ((request.get('content-encoding') ?? 'identity') !== 'identity')
      return refuse(415, 'the body must not be compressed')

    const body = await readBody(request)
    switch (body.kind) {
      case 'too_large':
        return refuse(413, `a delivery has at most ${limits.maxBytes} bytes`)
      case 'too_slow':
        return refuse(408, `the body did not come within ${limits.timeoutMs} ms`)
      case 'too_many':
        return refuse(503, 'too many deliveries are being read', { 'Retry-After': '5' })
      case 'broken':
        return
      case 'read':
        break
      default:
        return unreachable(body)
    }

    const name = pathOf(request)
    const candidates = name === undefined ? all : all.filter((one) => sameRepository(one.name, name))
    const signed = signers(candidates, (secret) => proof.holds(body.bytes, secret))
    if (signed.length === 0) return refuse(401, 'the signature does not match')

    const id = proof.delivery ?? first(header, door.delivery)
    const event = first(header, door.event) ?? door.defaultEvent
    if (id === undefined || !DELIVERY_ID.test(id))
      return refuse(400, `the header ${door.delivery[0]} is missing or not an id`)
    if (event === undefined || !EVENT.test(event))
      return refuse(400, `the header ${door.event[0]} is missing or not the name of an event`)

    let payload: unknown
    try {
      payload = parseJson(body.bytes)
    } catch (err) {
      if (err instanceof JsonRefused) return refuse(400, err.message)
      throw err
    }
    const told = door.parse(event, payload)
    const named = told.kind === 'trigger' ? told.trigger.repo : told.repo
    const repository = named === undefined ? undefined : signed.find((one) => sameRepository(one.name, named))
    if (named !== undefined && repository === undefined) return refuse(403, NOT_YOURS)

    const canAsk = repository !== undefined && hasApi(repository)
    const incoming = told.kind === 'notice' && !canAsk ? told.otherwise : told
    const moved = (ref: string) => (canAsk ? ({ kind: 'branch', ref } as const) : undefined)
    const at = incoming.kind === 'trigger' || incoming.kind === 'branch_deleted' ? incoming.at : undefined
    const delivery: NewDelivery = {
      source: door.kind,
      id,
      event,
      bodyDigest: createHash('sha256').update(body.bytes).digest('hex'),
      ...(repository === undefined ? {} : { repo: repository.name }),
      ...(at === undefined ? {} : { at }),
    }
    switch (incoming.kind) {
      case 'refused':
        return refuse(incoming.why === 'shape' ? 400 : 422, incoming.message)
      case 'ignored':
        return answer(response, delivery, await store.deliveries.recordIgnored(delivery, incoming.reason))
      case 'branch_deleted':
        return answer(
          response,
          delivery,
          await store.deliveries.recordBranchDeleted(
            delivery,
            repository?.name ?? incoming.repo,
            incoming.ref,
            moved(incoming.ref),
            incoming.before,
          ),
        )
      case 'trigger': {
        if (!isFullCommit(incoming.trigger.change.commit)) return refuse(422, 'the commit is not a full commit id')
        const { ref } = incoming.trigger.change
        if (isPromotionBranch(ref)) {
          const reason = `${branchName(ref)} is a branch of Penstock’s own: what is pushed there starts no run`
          return answer(response, delivery, await store.deliveries.recordIgnored(delivery, reason))
        }
        const { pusher = '' } = incoming.trigger.change
        if (repository?.unknownPusher === 'refuse' && !canAsk && excludedOf(config, { pusher }).length === 0) {
          const reason = `the operator's file knows nobody who is ${JSON.stringify(pusher)}, and says that such pushes start no run`
          return answer(response, delivery, await store.deliveries.recordIgnored(delivery, reason))
        }
        const trigger: Trigger = { ...incoming.trigger, repo: repository?.name ?? incoming.trigger.repo }
        const notice = trigger.kind === 'push' ? moved(trigger.change.ref) : undefined
        // Where the forge cannot be asked, its signature stands for both: that a branch moved, and that the head of a
        // pull request is a branch of this repository. Others are ignored by name.
        const admission = admit(trigger.kind === 'pull_request' ? 'pull_request' : 'push', ON_A_BRANCH)
        if (admission.kind === 'refused') {
          return answer(response, delivery, await store.deliveries.recordIgnored(delivery, admission.sentence))
        }
        return answer(response, delivery, await store.deliveries.record(delivery, trigger, admission, notice))
      }
      case 'notice':
        return answer(
          response,
          delivery,
          await store.deliveries.recordNotice(delivery, repository?.name ?? incoming.repo, incoming.notice),
        )
      default:
        return unreachable(incoming)
    }
  }

  async function answer(response: Response, delivery: NewDelivery, recorded: Recorded): Promise<void> {
    const run = (row: { readonly number: number; readonly id: string }) => ({
      run: row.number,
      id: row.id,
      url: `${config.server.url}/api/v1/runs/${row.number}`,
    })
    switch (recorded.kind) {
      case 'run':
        log.info({ delivery: delivery.id, run: recorded.run.id }, 'delivery became a run')
        response.status(202).json(run(recorded.run))
        return
      case 'duplicate':
        log.info({ delivery: delivery.id, by: recorded.by, run: recorded.run?.id }, 'delivery was known')
        response.status(200).json({ duplicate: recorded.by, ...(recorded.run === undefined ? {} : run(recorded.run)) })
        return
      case 'noted':
        response.status(202).json({ noted: recorded.about.kind })
        return
      case 'ignored':
        response.status(200).json({ ignored: recorded.reason })
        return
      case 'conflict':
        log.error({ delivery: delivery.id, source: delivery.source }, 'a delivery id came again with another body')
        await store.audit.record({
          by: delivery.source,
          channel: 'webhook',
          action: 'delivery.conflict',
          on: delivery.id,
          detail: { event: delivery.event, bodyDigest: delivery.bodyDigest },
        })
        sendProblem(response, problem(409, 'this delivery id was used before, for another body'))
        return
      default:
        return unreachable(recorded)
    }
  }
}

/** Every secret is tried, so the time taken does not tell whose it was. */
function signers(
  repositories: readonly RepositoryConfig[],
  holds: (secret: string) => boolean,
): readonly RepositoryConfig[] {
  const tried = new Map<string, boolean>()
  return repositories.filter((repository) => {
    let matched = false
    for (const secret of repository.webhookSecrets) {
      const value = secret.reveal()
      const known = tried.get(value) ?? holds(value)
      tried.set(value, known)
      matched ||= known
    }
    return matched
  })
}

/** The repository behind the door's own path; at some forges it lies in groups within groups. */
function pathOf({ params }: Request): string | undefined {
  const { name } = params as { readonly name?: string | readonly string[] }
  return typeof name === 'string' ? name : name?.join('/')
}

/** Whether there is somebody to ask what a payload only claims. */
function hasApi({ forge }: RepositoryConfig): boolean {
  return forge.kind !== 'git' && forge.access !== undefined
}

/** Forges do not tell names apart by case. */
function sameRepository(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase()
}
