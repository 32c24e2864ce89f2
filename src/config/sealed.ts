import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import type { Secret } from './secret.ts'

/** What a job was given, so that it is known what to mask when the operator's file says something else by then. */
export interface GivenSecret {
  readonly name: string
  readonly value: string
}

const ALGORITHM = 'aes-256-gcm'
const IV_BYTES = 12
const TAG_BYTES = 16

/** Sealed with the token of the workers, who alone are told these values; bound to the job. */
export function seal(token: Secret, job: string, given: readonly GivenSecret[]): string {
  const iv = randomBytes(IV_BYTES)
  const cipher = createCipheriv(ALGORITHM, keyOf(token), iv).setAAD(Buffer.from(job))
  const text = Buffer.concat([
    cipher.update(JSON.stringify(given.map(({ name, value }) => [name, value]))),
    cipher.final(),
  ])
  return Buffer.concat([iv, cipher.getAuthTag(), text]).toString('base64')
}

/** @throws Error where it was sealed with another token, or for another job */
export function unseal(token: Secret, job: string, sealed: string): readonly GivenSecret[] {
  const bytes = Buffer.from(sealed, 'base64')
  const decipher = createDecipheriv(ALGORITHM, keyOf(token), bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES })
    .setAAD(Buffer.from(job))
    .setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
  const text = Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()])
  return (JSON.parse(text.toString('utf8')) as [string, string][]).map(([name, value]) => ({ name, value }))
}

/** The same for the same values, and of no use to guess one. */
export function versionOf(token: Secret | undefined, given: readonly GivenSecret[]): string {
  const digest = createHmac('sha256', token?.reveal() ?? '')
  for (const { name, value } of given) digest.update(`${name.length}:${name}${value.length}:${value}`)
  return digest.digest('hex').slice(0, 16)
}

function keyOf(token: Secret): Buffer {
  return Buffer.from(hkdfSync('sha256', token.reveal(), '', 'penstock: secrets that jobs were given', 32))
}
