import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { isSignature, isSignedWith } from '../forge/signature.ts'

export type GiveHeader = (name: string) => string | undefined

/** What a delivery brings to prove where it is from, by its headers alone. */
export type Proof =
  | { readonly kind: 'none'; readonly why: string }
  | {
      readonly kind: 'given'
      /** Compares in constant time: how long it takes tells nothing about the secret. */
      readonly holds: (body: Buffer, secret: string) => boolean
      /** The delivery's id, where the proof covers it. */
      readonly delivery?: string
    }

/** Of these headers the first that is there. */
export function first(header: GiveHeader, names: readonly string[]): string | undefined {
  return names.map(header).find((value) => value !== undefined)
}

function none(why: string): Proof {
  return { kind: 'none', why }
}

function hmac(signature: string): Proof {
  if (!isSignature(signature)) return none('the signature must be written as sha256=<64 hex digits>')
  return { kind: 'given', holds: (body, secret) => isSignedWith(body, signature, secret) }
}

export function githubSignature(header: GiveHeader): Proof {
  const signature = header('x-hub-signature-256')
  if (signature !== undefined) return hmac(signature)
  return none(header('x-hub-signature') === undefined ? 'signature missing' : 'sha256 signature required')
}

export function penstockSignature(header: GiveHeader): Proof {
  const signature = header('x-penstock-signature-256')
  return signature === undefined ? none('signature missing') : hmac(signature)
}

/** 64 hex digits and nothing before them. A webhook without a secret sends the header with nothing in it. */
export function bareSignature(...names: readonly string[]): (header: GiveHeader) => Proof {
  return (header) => {
    const signature = first(header, names)
    if (signature === undefined || signature === '') return none('signature missing')
    const proof = hmac(`sha256=${signature}`)
    return proof.kind === 'none' ? none('the signature must be written as 64 hex digits') : proof
  }
}

const MOST_SIGNATURES = 8
const SIGNATURE = /^v1,([A-Za-z0-9+/]{43}=)$/

/**
 * A signature, as Standard Webhooks has it, where the webhook has a signing token, as newer versions offer it; else the secret token
 * itself, which proves only that the sender knows it: what GitLab sends must not be readable on its way.
 */
export function gitlabProof(header: GiveHeader): Proof {
  const signature = header('webhook-signature')
  if (signature !== undefined) {
    const [id, time] = [header('webhook-id'), header('webhook-timestamp')]
    // While tokens are rotated there is one for each.
    const given = signature
      .split(' ')
      .slice(0, MOST_SIGNATURES)
      .flatMap((one) => SIGNATURE.exec(one)?.[1] ?? [])
    if (id === undefined || time === undefined || given.length === 0) {
      return none('a signature must be written as v1,<base64>, with webhook-id and webhook-timestamp')
    }
    return {
      kind: 'given',
      delivery: id,
      holds: (body, secret) => isStandardlySigned({ id, time, body, secret, given }),
    }
  }
  const token = header('x-gitlab-token')
  if (token === undefined || token === '') return none('neither a signature nor a token')
  return { kind: 'given', holds: (_, secret) => timingSafeEqual(digest(token), digest(secret)) }
}

const SIGNING_TOKEN = /^whsec_([A-Za-z0-9+/]+={0,2})$/

function isStandardlySigned(signed: {
  readonly id: string
  readonly time: string
  readonly body: Buffer
  readonly secret: string
  readonly given: readonly string[]
}): boolean {
  const key = SIGNING_TOKEN.exec(signed.secret)?.[1]
  if (key === undefined) return false
  const mac = createHmac('sha256', Buffer.from(key, 'base64'))
  const right = mac.update(`${signed.id}.${signed.time}.`).update(signed.body).digest()
  return signed.given.some((one) => timingSafeEqual(Buffer.from(one, 'base64'), right))
}

/** Of one length, whatever the text: what can be compared. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
