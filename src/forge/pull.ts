import { z } from 'zod'
import type { PullRequest } from './types.ts'

const Side = z.object({ ref: z.string(), sha: z.string(), repo: z.object({ full_name: z.string() }).nullish() })

/** A pull request as GitHub's API has it, and those that are shaped after it. */
export const Pull = z.object({
  number: z.int().positive(),
  state: z.enum(['open', 'closed']),
  merged: z.boolean().nullish(),
  merged_at: z.string().nullish(),
  draft: z.boolean().nullish(),
  title: z.string(),
  body: z.string().nullish(),
  user: z.object({ login: z.string() }).nullish(),
  labels: z.array(z.object({ name: z.string() })).nullish(),
  head: Side,
  base: Side,
  html_url: z.string().nullish(),
})
export type Pull = z.infer<typeof Pull>

/** `fullName`: of the repository that it is a pull request of. */
export function toPullRequestOf(fullName: string, pull: Pull): PullRequest {
  const { number, state, title, head, base } = pull
  const repo = head.repo?.full_name
  return {
    number,
    state,
    merged: pull.merged ?? pull.merged_at != null,
    draft: pull.draft ?? false,
    title,
    ...(pull.user ? { author: pull.user.login } : {}),
    labels: (pull.labels ?? []).map((label) => label.name),
    head: { commit: head.sha, branch: head.ref, ...(repo === undefined ? {} : { repo }) },
    base: { branch: base.ref, commit: base.sha },
    fork: repo?.toLowerCase() !== fullName.toLowerCase(),
    url: pull.html_url ?? '',
  }
}
