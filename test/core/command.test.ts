import { describe, expect, test } from 'vitest'
import { commandIn } from '../../src/core/command.ts'

describe('a comment', () => {
  test.each([
    ['/merge', { kind: 'merge' }],
    ['Looks good to me.\r\n/merge\r\nthanks', { kind: 'merge' }],
    ['/approve', { kind: 'approve' }],
    ['/approve tried it by hand  ', { kind: 'approve', comment: 'tried it by hand' }],
    ['/reject the cart is empty', { kind: 'reject', reason: 'the cart is empty' }],
    ['/reject', { kind: 'reject' }],
    ['/retry', { kind: 'retry' }],
    ['/ok-to-test 0a1b', { kind: 'ok_to_test', commit: '0a1b' }],
    ['/frobnicate\n/merge', { kind: 'merge' }],
  ])('%j asks for %j', (text, command) => {
    expect(commandIn(text)).toEqual(command)
  })

  test.each([
    'please /merge this',
    '> /merge',
    '    /merge',
    '```\n/merge\n```',
    '~~~\n```\n/merge\n~~~',
    '/merged',
    '/merge-it',
    '//merge',
    'https://x/merge',
    '',
    `${'\n'.repeat(500)}/merge`,
  ])('%j asks for nothing', (text) => {
    expect(commandIn(text)).toBeUndefined()
  })
})
