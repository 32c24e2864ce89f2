import type { Pull, Repo, User } from './state.ts'

/** Why the rules of a branch do not let it go to that commit, in GitHub's words; undefined: they do. */
export function whyProtected(
  repo: Repo,
  branch: string,
  move: { readonly sha: string; readonly by: User; readonly force: boolean },
): string | undefined {
  const protection = repo.protections.get(branch)
  if (protection === undefined) return undefined
  const { sha, by, force } = move
  if (force && !protection.allowForce) return 'Cannot force-push to this branch'
  if (protection.onlyBy !== undefined && !protection.onlyBy.includes(by.login)) {
    return `Protected branch update failed for refs/heads/${branch}. You're not authorized to push to this branch.`
  }
  const missing = missingCheck(repo, branch, sha)
  if (missing !== undefined) return `Required status check "${missing}" is expected.`
  const pull = repo.pulls.find((one) => one.state === 'open' && one.base === branch && one.commit === sha)
  if (protection.reviews !== undefined && approvals(repo, pull) < protection.reviews) {
    return `At least ${protection.reviews} approving review is required by reviewers with write access.`
  }
  return undefined
}

/** The first check that the branch requires and the commit does not have. */
export function missingCheck(repo: Repo, branch: string, sha: string): string | undefined {
  return repo.protections.get(branch)?.checks?.find((context) => {
    const newest = repo.statuses.findLast((one) => one.sha === sha && one.context === context)
    const check = repo.checks.findLast((one) => one.sha === sha && one.name === context)
    return newest?.state !== 'success' && check?.conclusion !== 'success'
  })
}

/** Of the head as it is, by people who may write, none of whom is its author. Nobody may still want changes. */
function approvals(repo: Repo, pull: Pull | undefined): number {
  const last = new Map(
    (pull?.reviews ?? []).filter(({ state }) => state !== 'COMMENTED').map((one) => [one.user.login, one]),
  )
  const counted = [...last.values()].filter(({ user }) => {
    const level = repo.access.get(user.login.toLowerCase())
    return user !== pull?.user && (level === 'write' || level === 'admin')
  })
  if (counted.some(({ state }) => state === 'CHANGES_REQUESTED')) return 0
  return counted.filter(({ state, commit }) => state === 'APPROVED' && commit === pull?.commit).length
}
