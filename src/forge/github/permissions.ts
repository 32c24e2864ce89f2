import type { Finding } from '../types.ts'

/** What Penstock asks GitHub for, by GitHub's own names, and what for. The list in docs/github.md is this one. */
export const PERMISSIONS: readonly {
  readonly name: string
  readonly level: 'read' | 'write'
  readonly weight: Finding['weight']
  readonly why: string
  /** Scopes of a classic token of which each gives it. */
  readonly scopes: readonly string[]
}[] = [
  {
    name: 'metadata',
    level: 'read',
    weight: 'needed',
    why: 'to see the repository, who may write to it, and the rules of its branches',
    scopes: ['repo', 'public_repo'],
  },
  {
    name: 'contents',
    level: 'write',
    weight: 'needed',
    why: 'to fetch commits, to merge by fast-forward, and to make the branch of a promotion',
    scopes: ['repo', 'public_repo'],
  },
  {
    name: 'pull_requests',
    level: 'write',
    weight: 'needed',
    why: 'to read pull requests and reviews, to comment, and to open the pull request of a promotion',
    scopes: ['repo', 'public_repo'],
  },
  {
    name: 'statuses',
    level: 'write',
    weight: 'needed',
    why: 'to show each stage on the commit, which the protection of branches asks for',
    scopes: ['repo', 'public_repo', 'repo:status'],
  },
  {
    name: 'checks',
    level: 'write',
    weight: 'advised',
    why: 'to show failed tests at their lines, with a button that retries the stage',
    // Only an App has checks.
    scopes: [],
  },
  {
    name: 'deployments',
    level: 'write',
    weight: 'advised',
    why: 'to show what is deployed where, with the address',
    scopes: ['repo', 'public_repo', 'repo_deployment'],
  },
  {
    name: 'workflows',
    level: 'write',
    weight: 'advised',
    why: 'to fast-forward to a commit that changes files in .github/workflows',
    scopes: ['workflow'],
  },
  {
    name: 'administration',
    level: 'read',
    weight: 'advised',
    why: 'to read the protection of branches in `penstock forge check`; nothing else uses it',
    scopes: ['repo', 'public_repo'],
  },
]

/** What the webhook must send, and what each is for. */
export const EVENTS: readonly { readonly name: string; readonly weight: Finding['weight']; readonly why: string }[] = [
  { name: 'push', weight: 'needed', why: 'starts the runs of branches' },
  { name: 'pull_request', weight: 'needed', why: 'starts the runs of pull requests' },
  {
    name: 'pull_request_review',
    weight: 'needed',
    why: 'tells of approvals, so that a merge is not waited for longer',
  },
  { name: 'issue_comment', weight: 'needed', why: 'brings /merge, /approve and /reject' },
  { name: 'check_run', weight: 'advised', why: 'brings the click on a button of a check' },
  { name: 'merge_group', weight: 'advised', why: 'asks for the status of a group in GitHub’s own merge queue' },
]

/** Of what an owner has granted, what Penstock uses: a token never gets more than that. */
export function leastOf(granted: Readonly<Record<string, string>>): Record<string, 'read' | 'write'> {
  const least: Record<string, 'read' | 'write'> = {}
  for (const { name, level } of PERMISSIONS) {
    const given = granted[name]
    if (given !== undefined) least[name] = level === 'write' && given !== 'read' ? 'write' : 'read'
  }
  return least
}

export function covers(given: string | undefined, level: 'read' | 'write'): boolean {
  return given === 'admin' || given === 'write' || (given === 'read' && level === 'read')
}
