import { createHmac, timingSafeEqual } from 'node:crypto'

const SIGNATURE = /^sha256=([0-9a-f]{64})$/

export function sign(body: Uint8Array, secret: string): string {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
}

/** Whether the header is written as a signature at all: `sha256=` and 64 hex digits. */
export function isSignature(header: string): boolean {
  return SIGNATURE.test(header)
}

/** Compares in constant time: how long it takes tells nothing about the secret. */
export function isSignedWith(body: Uint8Array, header: string, secret: string): boolean {
  const given = SIGNATURE.exec(header)?.[1]
  if (given === undefined) return false
  return timingSafeEqual(createHmac('sha256', secret).update(body).digest(), Buffer.from(given, 'hex'))
}
