import { z } from 'zod'
import type { Trigger } from '../core/change.ts'
import type { Notice } from '../core/notice.ts'

/** What a verified delivery means, in words that no forge has a monopoly on. */
export type Incoming =
  | { readonly kind: 'trigger'; readonly trigger: Trigger; readonly at?: number }
  | {
      readonly kind: 'branch_deleted'
      readonly repo: string
      readonly ref: string
      /** Where it was. */
      readonly before?: string
      readonly at?: number
    }
  /** Where the forge can be asked, it is; where it cannot, what the payload itself says has to do. */
  | {
      readonly kind: 'notice'
      readonly repo: string
      readonly notice: Notice
      readonly otherwise: Incoming
    }
  | { readonly kind: 'ignored'; readonly repo?: string; readonly reason: string }
  /** `shape`: no payload of this forge at all; `mismatch`: one, but not of the event that the header names. */
  | { readonly kind: 'refused'; readonly why: 'shape' | 'mismatch'; readonly message: string; readonly repo?: string }

/** `parse(event, body)`: pure; what it says about trust is only what the signature covers. */
export type Parse = (event: string, body: unknown) => Incoming

const MAX_TITLE = 200
const MAX_NAME = 200
const MAX_REF = 1024

/** A commit, or all zeros for "none". Both of git's lengths. */
export const Sha = z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/)
export const Ref = z
  .string()
  .max(MAX_REF)
  .regex(/^refs\/[^\p{Cc} ~^:?*[\\]+$/u)
  // What else git takes for no name: `git check-ref-format`.
  .refine((ref) => !/\.\.|@\{|\/\/|\/\.|[/.]$|\.lock(?:\/|$)/.test(ref))
export const NAME = z.string().min(1).max(MAX_NAME)

export function isNoCommit(sha: string): boolean {
  return /^0+$/.test(sha)
}

/** The first line, cut; never refused: nobody's push fails because of a long title. */
export function toTitle(message: string | null | undefined): { readonly title?: string } {
  const line = (message ?? '').split(/\r?\n/, 1)[0]?.trim() ?? ''
  if (line === '') return {}
  const characters = [...line]
  return { title: characters.length > MAX_TITLE ? `${characters.slice(0, MAX_TITLE - 1).join('')}…` : line }
}

export function toName(
  field: 'author' | 'pusher',
  name: string | null | undefined,
): { author?: string; pusher?: string } {
  const short = (name ?? '').trim().slice(0, MAX_NAME)
  return short === '' ? {} : { [field]: short }
}

/** The three answers to a push, equal for all forges. */
export function toPush(
  repo: string,
  push: {
    readonly ref: string
    readonly before: string
    readonly after: string
    readonly title?: string | null | undefined
    /** When it was pushed, if the forge says so: only to tell which of two pushes came later. */
    readonly at?: number | undefined
  },
  people: { readonly author?: string | null | undefined; readonly pusher?: string | null | undefined },
): Incoming {
  const { ref, before, after } = push
  if (!ref.startsWith('refs/heads/')) return { kind: 'ignored', repo, reason: `${ref} is not a branch` }
  const when = push.at === undefined ? {} : { at: push.at }
  if (isNoCommit(after))
    return { kind: 'branch_deleted', repo, ref, ...(isNoCommit(before) ? {} : { before }), ...when }
  return {
    ...when,
    kind: 'trigger',
    trigger: {
      kind: 'push',
      repo,
      requestedBy: people.pusher?.trim().slice(0, MAX_NAME) || 'push',
      change: {
        commit: after,
        ref,
        ...(isNoCommit(before) ? {} : { before }),
        ...toTitle(push.title),
        ...toName('author', people.author),
        ...toName('pusher', people.pusher),
      },
    },
  }
}
