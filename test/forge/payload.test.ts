import { describe, expect, test } from 'vitest'
import { parseGit } from '../../src/forge/git/payload.ts'
import { parseGithub } from '../../src/forge/github/payload.ts'
import type { Incoming } from '../../src/forge/incoming.ts'
import { JsonRefused, parseJson } from '../../src/forge/json.ts'
import { isSignature, isSignedWith, sign } from '../../src/forge/signature.ts'
import { BEFORE, COMMIT, githubPullRequest, githubPush, NO_COMMIT } from './payloads.ts'

describe('a signature', () => {
  test('is the one of GitHub’s documentation', () => {
    const body = Buffer.from('Hello, World!')

    expect(sign(body, "It's a Secret to Everybody")).toBe(
      'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
    )
  })

  test.each([
    '',
    'sha256=',
    `sha256=${'a'.repeat(63)}`,
    `sha256=${'g'.repeat(64)}`,
    'sha256=é',
    `sha256=${'a'.repeat(10_240)}`,
    `sha1=${'a'.repeat(40)}`,
  ])('written as %j is none, and does not throw', (header) => {
    expect(isSignature(header)).toBe(false)
    expect(isSignedWith(Buffer.from('x'), header, 'secret')).toBe(false)
  })
})

describe('a push of GitHub', () => {
  test('becomes a trigger with the authenticated sender as pusher', () => {
    expect(parseGithub('push', githubPush())).toEqual({
      kind: 'trigger',
      trigger: {
        kind: 'push',
        repo: 'acme/web',
        requestedBy: 'ben-o',
        change: {
          commit: COMMIT,
          ref: 'refs/heads/master',
          before: BEFORE,
          title: 'Add a page',
          author: 'ada-l',
          pusher: 'ben-o',
        },
      },
    })
  })

  test('of a new branch has no commit before', () => {
    const incoming = parseGithub('push', githubPush({ before: NO_COMMIT }))

    expect(incoming).toMatchObject({ kind: 'trigger' })
    expect(incoming.kind === 'trigger' && 'before' in incoming.trigger.change).toBe(false)
  })

  test('of a deleted branch is told apart', () => {
    expect(parseGithub('push', githubPush({ after: NO_COMMIT, head_commit: null }))).toEqual({
      kind: 'branch_deleted',
      repo: 'acme/web',
      ref: 'refs/heads/master',
      before: BEFORE,
    })
  })

  test.each([
    [1_760_000_000, 1_760_000_000_000],
    ['2025-10-09T08:53:20Z', 1_760_000_000_000],
    ['yesterday', undefined],
    [{}, undefined],
  ])('at %j is at that time, if it is one', (pushed_at, at) => {
    const incoming = parseGithub('push', githubPush({ repository: { full_name: 'acme/web', pushed_at } }))

    expect(incoming.kind === 'trigger' ? incoming.at : 'no trigger').toBe(at)
  })

  test('of a tag starts nothing, and says so', () => {
    expect(parseGithub('push', githubPush({ ref: 'refs/tags/v1' }))).toEqual({
      kind: 'ignored',
      repo: 'acme/web',
      reason: 'refs/tags/v1 is not a branch',
    })
  })

  test('with a message of a megabyte is taken, its title cut', () => {
    const incoming = parseGithub('push', githubPush({ head_commit: { message: `${'é'.repeat(1_000_000)}\nmore` } }))

    expect(incoming.kind === 'trigger' && [...(incoming.trigger.change.title ?? '')]).toHaveLength(200)
  })

  test.each([
    ['$(id)', 'refs/heads/x$(id)'],
    ['a quote', 'refs/heads/a"b'],
    ['markup', 'refs/heads/<img/src=x/onerror=alert(1)>'],
    ['an option', 'refs/heads/-upload-pack'],
    ['a full ref inside', 'refs/heads/refs/heads/main'],
  ])('of a branch named with %s is data only', (_, ref) => {
    expect(parseGithub('push', githubPush({ ref }))).toMatchObject({ kind: 'trigger', trigger: { change: { ref } } })
  })

  test.each([
    ['a short commit', { after: 'abc123' }],
    ['an upper-case commit', { after: 'A'.repeat(40) }],
    ['a ref with a space', { ref: 'refs/heads/a b' }],
    ['a ref with a control byte', { ref: 'refs/heads/a\u0000b' }],
    ['no ref at all', { ref: undefined }],
    ['a ref with two dots', { ref: 'refs/heads/a..b' }],
    ['a ref with an upstream in it', { ref: 'refs/heads/a@{1}' }],
    ['a ref with an empty part', { ref: 'refs/heads//a' }],
    ['a ref without a name', { ref: 'refs/heads/' }],
    ['a ref that is a lock', { ref: 'refs/heads/a.lock' }],
    ['a ref of 2000 characters', { ref: `refs/heads/${'a'.repeat(2000)}` }],
  ])('with %s is refused', (_, over) => {
    expect(parseGithub('push', githubPush(over))).toMatchObject({ kind: 'refused', why: 'mismatch', repo: 'acme/web' })
  })
})

/** What the payload itself has to do for, where GitHub cannot be asked. */
function withoutApi(event: string, body: unknown): Incoming {
  const incoming = parseGithub(event, body)
  return incoming.kind === 'notice' ? incoming.otherwise : incoming
}

describe('a pull request of GitHub', () => {
  test.each(['opened', 'reopened', 'synchronize', 'ready_for_review'])(
    'that is %s becomes a trigger of its own kind',
    (action) => {
      expect(withoutApi('pull_request', githubPullRequest({ action }))).toEqual({
        kind: 'trigger',
        trigger: {
          kind: 'pull_request',
          repo: 'acme/web',
          requestedBy: 'ben-o',
          change: {
            commit: COMMIT,
            ref: 'refs/pull/7/head',
            before: BEFORE,
            title: 'Add a page',
            author: 'ada-l',
            pusher: 'ben-o',
            pullRequest: { number: 7, base: 'master' },
          },
        },
      })
    },
  )

  test.each(['closed', 'labeled', 'edited'])('that is %s starts nothing: it brings no new commit', (action) => {
    expect(withoutApi('pull_request', githubPullRequest({ action }))).toMatchObject({
      kind: 'ignored',
      repo: 'acme/web',
    })
  })

  test('from a fork starts nothing', () => {
    const incoming = withoutApi('pull_request', githubPullRequest({ headRepo: 'mallory/web' }))

    expect(incoming).toMatchObject({ kind: 'ignored', reason: expect.stringContaining('fork') })
  })

  test('whose fork was deleted starts nothing', () => {
    expect(withoutApi('pull_request', githubPullRequest({ headRepo: null }))).toMatchObject({ kind: 'ignored' })
  })

  test('sent as a push is refused: the header must fit the body', () => {
    expect(parseGithub('push', githubPullRequest())).toMatchObject({
      kind: 'refused',
      why: 'mismatch',
      message: expect.stringContaining('payload is not a push'),
    })
  })
})

test('other events of GitHub are ignored by name', () => {
  expect(parseGithub('issues', { repository: { full_name: 'acme/web' } })).toEqual({
    kind: 'ignored',
    repo: 'acme/web',
    reason: 'event "issues" starts nothing',
  })
  expect(parseGithub('ping', { zen: 'Keep it simple' })).toEqual({ kind: 'ignored', reason: 'ping' })
})

test.each([[null], [[]], ['x'], [42]])('%j is no payload of any forge', (body) => {
  expect(parseGithub('push', body)).toMatchObject({ kind: 'refused', why: 'shape' })
  expect(parseGit('push', body)).toMatchObject({ kind: 'refused', why: 'shape' })
})

describe('a push of a plain repository', () => {
  const push = { repository: 'acme/web', ref: 'refs/heads/master', before: BEFORE, after: COMMIT }

  test('becomes a trigger', () => {
    expect(parseGit('push', { ...push, pusher: 'ben', author: 'Ada <ada@example.org>', title: 'Add a page' })).toEqual({
      kind: 'trigger',
      trigger: {
        kind: 'push',
        repo: 'acme/web',
        requestedBy: 'ben',
        change: {
          commit: COMMIT,
          ref: 'refs/heads/master',
          before: BEFORE,
          title: 'Add a page',
          author: 'Ada <ada@example.org>',
          pusher: 'ben',
        },
      },
    })
  })

  test('with nobody named is still a trigger', () => {
    expect(parseGit('push', push)).toMatchObject({ kind: 'trigger', trigger: { requestedBy: 'push' } })
  })
})

describe('JSON from outside', () => {
  test.each([
    ['a key twice', '{"a":1,"b":{"a":2},"a":3}', 'is there twice'],
    ['a key twice, once escaped', '{"a":1,"\\u0061":2}', 'is there twice'],
    ['100,000 open brackets', '['.repeat(100_000), 'nested deeper than 64'],
    ['half of a surrogate pair', '{"a":"\\ud800"}', 'surrogate'],
    ['half of a surrogate pair in a key', '{"\\udc00":1}', 'surrogate'],
    ['a string without end', '{"a', 'not JSON'],
    ['a bad escape', '{"\\x":1}', 'not JSON'],
    ['nothing', '', 'not JSON'],
  ])('%s is refused by name', (_, text, message) => {
    expect(() => parseJson(Buffer.from(text))).toThrow(JsonRefused)
    expect(() => parseJson(Buffer.from(text))).toThrow(message)
  })

  test('broken UTF-8 is refused, not repaired', () => {
    expect(() => parseJson(Buffer.from([0x22, 0xc3, 0x28, 0x22]))).toThrow('not UTF-8')
  })

  test.each([
    '{"a":{"x":1},"b":{"x":1},"c":[{"x":1},{"x":2}]}',
    '{"a":"b","c":"a: \\"a\\": {[","d":"\\ud83d\\ude00"}',
    '[[],{},"",0,null,true]',
    ' {"" : "" } ',
  ])('%s is taken as JSON.parse takes it', (text) => {
    expect(parseJson(Buffer.from(text))).toEqual(JSON.parse(text))
  })

  test('a key named __proto__ changes nothing', () => {
    parseJson(Buffer.from('{"__proto__":{"polluted":true}}'))

    expect(Object.getOwnPropertyDescriptor(Object.prototype, 'polluted')).toBeUndefined()
  })
})

describe('what is asked for again at GitHub', () => {
  const repository = { full_name: 'acme/web' }
  const sender = { login: 'ada' }
  const notice = (event: string, body: object) => {
    const incoming = parseGithub(event, { repository, sender, ...body })
    return incoming.kind === 'notice' ? incoming.notice : incoming
  }

  test('a pull request needs no more than its number', () => {
    expect(notice('pull_request', { action: 'labeled', number: 7 })).toEqual({ kind: 'pull_request', number: 7 })
    expect(notice('pull_request', { pull_request: { number: 7 } })).toEqual({ kind: 'pull_request', number: 7 })
    expect(notice('pull_request_review', { pull_request: { number: 7 } })).toEqual({ kind: 'review', pullRequest: 7 })
  })

  test('a comment on a pull request, as it was first written', () => {
    const issue = { number: 7, pull_request: {} }

    expect(notice('issue_comment', { action: 'created', issue, comment: { id: 9 } })).toEqual({
      ...{ kind: 'comment', pullRequest: 7, comment: '9' },
    })
    expect(notice('issue_comment', { action: 'edited', issue, comment: { id: 9 } })).toMatchObject({ kind: 'ignored' })
    expect(notice('issue_comment', { action: 'created', issue: { number: 7 }, comment: { id: 9 } })).toMatchObject({
      reason: 'a comment on an issue starts nothing',
    })
  })

  test('the buttons beside a check, and no other news of it', () => {
    const check_run = { head_sha: COMMIT, external_id: 'acme/web#4/1' }
    const asked = { kind: 'rerun', commit: COMMIT, identity: 'acme/web#4/1', by: 'ada' }

    expect(notice('check_run', { action: 'rerequested', check_run })).toEqual(asked)
    expect(
      notice('check_run', { action: 'requested_action', check_run, requested_action: { identifier: 'retry' } }),
    ).toEqual(asked)
    expect(notice('check_run', { action: 'completed', check_run })).toMatchObject({ kind: 'ignored' })
    expect(notice('check_suite', { action: 'rerequested', check_suite: { head_sha: COMMIT } })).toEqual({
      ...{ kind: 'rerun', commit: COMMIT, by: 'ada' },
    })
  })

  test('a merge queue that wants checks', () => {
    const merge_group = {
      head_sha: COMMIT,
      head_ref: 'refs/heads/gh-readonly-queue/master/pr-7',
      base_ref: 'refs/heads/master',
    }

    expect(notice('merge_group', { action: 'checks_requested', merge_group })).toEqual({
      ...{ kind: 'merge_group', commit: COMMIT, ref: merge_group.head_ref, base: merge_group.base_ref },
    })
    expect(notice('merge_group', { action: 'destroyed', merge_group })).toMatchObject({ kind: 'ignored' })
  })
})
