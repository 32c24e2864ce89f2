import type { TestCase } from '../store/types.ts'

/** JUnit XML, as other tools read it: one suite. What was said of a case that passed or errored is in it, too. */
export function writeJUnit(suite: string, cases: readonly TestCase[]): string {
  const count = (result: TestCase['result']) => cases.filter((one) => one.result === result).length
  const totals = `tests="${cases.length}" failures="${count('failed')}" errors="${count('errored')}" skipped="${count('skipped')}"`
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites ${totals}>`,
    `<testsuite name="${escaped(suite)}" ${totals}>`,
    ...cases.map(testCase),
    '</testsuite>',
    '</testsuites>',
    '',
  ].join('\n')
}

function testCase({ name, className, file, line, seconds, result, message }: TestCase): string {
  const attributes = Object.entries({ name, classname: className, file, line, time: seconds })
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}="${escaped(String(value))}"`)
    .join('')
  const said = message === undefined ? '' : ` message="${escaped(message)}"`
  const inner = {
    passed: message === undefined ? '' : `<system-out>${escaped(message)}</system-out>`,
    failed: `<failure${said}/>`,
    errored: `<error${said}/>`,
    skipped: `<skipped${said}/>`,
  }[result]
  return `<testcase${attributes}>${inner}</testcase>`
}

/** XML 1.0 has no way to write most control characters; line ends and tabs would become spaces in an attribute. */
function escaped(text: string): string {
  return text
    .replace(/[^\t\n\r\u{20}-\u{D7FF}\u{E000}-\u{FFFD}\u{10000}-\u{10FFFF}]/gu, '\uFFFD')
    .replace(/[&<>"\t\n\r]/g, (char) => `&#${char.codePointAt(0)};`)
}
