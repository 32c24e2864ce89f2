import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Forge } from '../../src/forge/types.ts'
import { ALL_EVENTS, ALL_PERMISSIONS, HOOK_SECRET, type Hub, installedApp, REPO, startHub } from './github.ts'

let hub: Hub

beforeEach(async () => {
  hub = await startHub()
  const commit = await hub.push('master')
  await hub.forge().fastForward('production', commit)
})
afterEach(() => hub.github.stop())

const PROTECTED = { linear: true } as const

function protectAll(): void {
  const { world } = hub.github
  world.protect(REPO, 'master', { ...PROTECTED, reviews: 1, checks: ['penstock/test'] })
  world.protect(REPO, 'production', { ...PROTECTED, checks: ['penstock/signoff'], onlyBy: ['penstock'] })
}

async function wanting(forge: Forge): Promise<readonly string[]> {
  const findings = (await forge.check?.()) ?? []
  return findings.filter((one) => one.state !== 'present').map((one) => `${one.state}: ${one.about} ${one.name}`)
}

describe('what is missing is named, with how to mend it', () => {
  test('nothing, in a repository that is set up with an App', async () => {
    const access = installedApp(hub, ALL_PERMISSIONS, { url: hub.hook, secret: HOOK_SECRET })
    protectAll()

    expect(await wanting(hub.forge(access))).toEqual([])
  })

  test('with a token only checks, which GitHub gives to Apps', async () => {
    hub.github.world.addWebhook(REPO, { url: hub.hook, secret: HOOK_SECRET, events: ALL_EVENTS })
    protectAll()

    expect(await wanting(hub.forge())).toEqual(['missing: permission checks: write'])
  })

  test('permissions that the App was not granted', async () => {
    const { statuses: _, deployments: __, ...granted } = ALL_PERMISSIONS
    const access = installedApp(hub, { ...granted, contents: 'read' }, { url: hub.hook, secret: HOOK_SECRET })
    protectAll()

    const findings = (await hub.forge(access).check?.()) ?? []

    expect(findings.filter((one) => one.state === 'missing')).toEqual([
      expect.objectContaining({ name: 'contents: write', weight: 'needed', mend: expect.stringContaining('Contents') }),
      expect.objectContaining({ name: 'statuses: write', weight: 'needed' }),
      expect.objectContaining({ name: 'deployments: write', weight: 'advised' }),
    ])
  })

  test('the webhook, and each event that it does not send', async () => {
    protectAll()
    const without = await hub.forge().check?.()
    hub.github.world.addWebhook(REPO, { url: hub.hook, secret: HOOK_SECRET, events: ['push', 'pull_request'] })
    const withFew = await wanting(hub.forge())

    expect(without?.find((one) => one.about === 'webhook')).toMatchObject({
      state: 'missing',
      weight: 'needed',
      mend: expect.stringContaining(`payload URL ${hub.hook}`),
    })
    expect(withFew.filter((one) => one.includes('webhook'))).toEqual([
      'missing: webhook event pull_request_review',
      'missing: webhook event issue_comment',
      'missing: webhook event check_run',
      'missing: webhook event merge_group',
    ])
  })

  test('a webhook whose newest delivery we refused', async () => {
    protectAll()
    const hook = hub.github.world.addWebhook(REPO, { url: hub.hook, secret: 'wrong', events: ALL_EVENTS })
    hook.deliveries.push({
      ...{ id: 1, guid: 'g', event: 'push', action: null, at: '2026-01-31T12:00:00Z', redelivery: false },
      ...{ repository: 1, body: '', code: 401, duration: 0 },
    })

    const findings = await hub.forge().check?.()

    expect(findings?.find((one) => one.name === 'last delivery')).toMatchObject({
      state: 'missing',
      mend: expect.stringContaining('the webhook secret at GitHub is not the one'),
    })
  })

  test('each protection of each branch', async () => {
    hub.github.world.addWebhook(REPO, { url: hub.hook, secret: HOOK_SECRET, events: ALL_EVENTS })
    hub.github.world.protect(REPO, 'production', { allowForce: true, allowDeletion: true })

    const branches = (await wanting(hub.forge())).filter((one) => one.includes('branch'))

    expect(branches).toEqual([
      'missing: branch master: no force pushes',
      'missing: branch master: no deletion',
      'missing: branch master: linear history',
      'missing: branch master: review',
      'missing: branch master: status penstock/test',
      'missing: branch production: no force pushes',
      'missing: branch production: no deletion',
      'missing: branch production: linear history',
      'missing: branch production: only Penstock pushes',
      'missing: branch production: status penstock/signoff',
    ])
  })

  test('what this account may not see is unknown, not missing', async () => {
    const { administration: _, ...granted } = ALL_PERMISSIONS
    const access = installedApp(hub, granted, { url: hub.hook, secret: HOOK_SECRET })
    protectAll()

    const found = await wanting(hub.forge(access))

    expect(found[0]).toBe('missing: permission administration: read')
    expect(found.slice(1).every((one) => one.startsWith('unknown: branch'))).toBe(true)
    expect(found.slice(1)).toHaveLength(10)
  })

  test('a protection that only administrators see is unknown to a token that may write', async () => {
    hub.github.world.setAccess(REPO, 'penstock', 'write')
    protectAll()

    const found = (await wanting(hub.forge())).filter((one) => one.includes(' branch '))

    expect(found).toHaveLength(10)
    expect(found.every((one) => one.startsWith('unknown: '))).toBe(true)
  })

  test('a fine-grained token, of which GitHub tells nothing', async () => {
    hub.github.world.addToken('penstock', 'github_pat_0123456789')
    protectAll()

    const found = await wanting(hub.forge({ kind: 'token', token: 'github_pat_0123456789' }))

    expect(found).toContain('unknown: permission statuses: write')
  })

  test('a token that is wrong, and one that does not see the repository', async () => {
    hub.github.world.addToken('stranger', 'ghp_stranger', ['repo'])
    ;(hub.github.world.repo(REPO) as { private: boolean }).private = true

    const wrong = await hub.forge({ kind: 'token', token: 'ghp_wrong' }).check?.()
    const blind = await hub.forge({ kind: 'token', token: 'ghp_stranger' }).check?.()

    expect(wrong).toMatchObject([
      { about: 'access', state: 'missing', mend: expect.stringContaining('token is wrong') },
    ])
    expect(blind).toMatchObject([{ about: 'access', state: 'missing', mend: expect.stringContaining('does not see') }])
  })
})
