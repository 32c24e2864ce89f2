import { describe, expect, test } from 'vitest'
import { parseGitea } from '../../src/forge/gitea/payload.ts'
import { parseGitlab } from '../../src/forge/gitlab/payload.ts'
import {
  giteaComment,
  giteaPullRequest,
  giteaPush,
  gitlabMergeRequest,
  gitlabNote,
  gitlabPush,
} from './other-payloads.ts'
import { BEFORE, COMMIT, NO_COMMIT } from './payloads.ts'

const CHANGE = { commit: COMMIT, ref: 'refs/heads/master', before: BEFORE, title: 'Add a page', pusher: 'ada-l' }

describe('what Gitea sends', () => {
  test('a push starts a run', () => {
    expect(parseGitea('push', giteaPush())).toEqual({
      kind: 'trigger',
      trigger: { kind: 'push', repo: 'acme/web', requestedBy: 'ada-l', change: { ...CHANGE, author: 'ada-l' } },
    })
  })

  test('a branch that was removed, a tag', () => {
    expect(parseGitea('push', giteaPush({ after: NO_COMMIT, head_commit: null })).kind).toBe('branch_deleted')
    expect(parseGitea('push', giteaPush({ ref: 'refs/tags/v1' })).kind).toBe('ignored')
  })

  test.each([['opened'], ['reopened'], ['synchronized']])('a pull request that was %s', (action) => {
    expect(parseGitea('pull_request', giteaPullRequest({ action }))).toMatchObject({
      kind: 'notice',
      notice: { kind: 'pull_request', number: 7 },
      otherwise: {
        kind: 'trigger',
        trigger: { change: { commit: COMMIT, pullRequest: { number: 7, base: 'master' } } },
      },
    })
  })

  test.each([
    ['of another kind', giteaPullRequest({ action: 'label_updated' })],
    ['about a fork', giteaPullRequest({ headRepo: 'mallory/web' })],
    ['about a fork that is gone', giteaPullRequest({ headRepo: null })],
  ])('news of a pull request %s starts nothing where nobody can be asked', (_, payload) => {
    expect(parseGitea('pull_request', payload)).toMatchObject({
      kind: 'notice',
      notice: { kind: 'pull_request', number: 7 },
      otherwise: { kind: 'ignored' },
    })
  })

  test.each(['pull_request_approved', 'pull_request_rejected', 'pull_request_comment'])('a review: %s', (event) => {
    const payload = giteaPullRequest({ action: 'reviewed', review: { type: event, content: '' } })

    expect(parseGitea(event, payload)).toMatchObject({ notice: { kind: 'review', pullRequest: 7 } })
  })

  test.each([
    ['a comment on an issue', giteaComment({ is_pull: false })],
    ['a comment that does not say on what', giteaComment({ is_pull: undefined })],
    ['a comment that was edited', giteaComment({ action: 'edited' })],
  ])('%s starts nothing', (_, payload) => {
    expect(parseGitea('issue_comment', payload).kind).toBe('ignored')
  })

  test('what is no payload of Gitea, or not the one that its header names', () => {
    expect(parseGitea('push', [])).toMatchObject({ kind: 'refused', why: 'shape' })
    expect(parseGitea('push', {})).toMatchObject({ kind: 'refused', why: 'shape' })
    expect(parseGitea('push', giteaComment())).toMatchObject({ kind: 'refused', why: 'mismatch' })
    expect(parseGitea('release', giteaPush()).kind).toBe('ignored')
  })
})

describe('what GitLab sends', () => {
  test('a push starts a run, with the title of the commit that is the new tip', () => {
    const change = { ...CHANGE, author: 'Ada <ada@example.org>' }

    expect(parseGitlab('Push Hook', gitlabPush())).toEqual({
      kind: 'trigger',
      trigger: { kind: 'push', repo: 'acme/group/web', requestedBy: 'ada-l', change },
    })
  })

  test('a branch that was removed', () => {
    const payload = gitlabPush({ after: NO_COMMIT, checkout_sha: null, commits: [] })

    expect(parseGitlab('Push Hook', payload)).toMatchObject({ kind: 'branch_deleted', ref: 'refs/heads/master' })
  })

  test.each([
    ['open', {}],
    ['reopen', {}],
    ['update', { oldrev: BEFORE }],
  ])('a merge request with a new head: %s', (action, more) => {
    expect(parseGitlab('Merge Request Hook', gitlabMergeRequest({ action, ...more }))).toMatchObject({
      kind: 'notice',
      notice: { kind: 'pull_request', number: 7 },
      otherwise: {
        kind: 'trigger',
        trigger: { change: { commit: COMMIT, pullRequest: { number: 7, base: 'master' } } },
      },
    })
  })

  test.each([
    ['a label', gitlabMergeRequest({ action: 'update' })],
    ['a merge', gitlabMergeRequest({ action: 'merge' })],
    ['a fork', gitlabMergeRequest({ source_project_id: 99 })],
    ['a fork that is gone', gitlabMergeRequest({ source_project_id: null })],
  ])('%s starts nothing where nobody can be asked', (_, payload) => {
    expect(parseGitlab('Merge Request Hook', payload)).toMatchObject({
      kind: 'notice',
      otherwise: { kind: 'ignored' },
    })
  })

  test.each(['approved', 'unapproved', 'approval', 'unapproval'])('an approval: %s', (action) => {
    expect(parseGitlab('Merge Request Hook', gitlabMergeRequest({ action }))).toMatchObject({
      notice: { kind: 'review', pullRequest: 7 },
    })
  })

  test.each([[{ action: 'create' }], [{ action: undefined }]])('a comment on a merge request: %o', (over) => {
    expect(parseGitlab('Note Hook', gitlabNote(over))).toMatchObject({
      notice: { kind: 'comment', pullRequest: 7, comment: '7-1244' },
    })
  })

  test.each([
    ['on a commit', gitlabNote({ noteable_type: 'Commit' })],
    ['that was changed', gitlabNote({ action: 'update' })],
    ['by GitLab itself', gitlabNote({ system: true })],
  ])('a comment %s starts nothing', (_, payload) => {
    expect(parseGitlab('Note Hook', payload).kind).toBe('ignored')
  })

  test('what is no payload of GitLab, or not the one that its header names', () => {
    expect(parseGitlab('Push Hook', null)).toMatchObject({ kind: 'refused', why: 'shape' })
    expect(parseGitlab('Push Hook', {})).toMatchObject({ kind: 'refused', why: 'shape' })
    expect(parseGitlab('Push Hook', gitlabNote())).toMatchObject({ kind: 'refused', why: 'mismatch' })
    expect(parseGitlab('Pipeline Hook', gitlabPush()).kind).toBe('ignored')
  })
})
