import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseJUnit } from '../../src/results/junit.ts'

const parse = (xml: string, limits = {}) => parseJUnit(Buffer.from(xml), limits)

describe('a JUnit report', () => {
  it('gives its cases with suite, place, time and what went wrong', () => {
    const report = parse(`<?xml version="1.0" encoding="utf-8"?>
<testsuites name="all"><testsuite name="pytest" tests="4">
  <testcase classname="tests.test_api" name="test_ok" file="tests/test_api.py" line="12" time="0.5"/>
  <testcase classname="tests.test_api" name="test_bad" time="1,234.5"><failure type="AssertionError" message="assert 1 == 2">def test_bad():
&gt; assert 1 == 2 &lt;b&gt;</failure></testcase>
  <testcase name="test_broken"><error message="fixture not found"/></testcase>
  <testcase name="test_later"><skipped message="needs a device"/></testcase>
</testsuite></testsuites>`)

    expect(report.problems).toEqual([])
    expect(report.cases).toEqual([
      {
        suite: 'pytest',
        className: 'tests.test_api',
        name: 'test_ok',
        file: 'tests/test_api.py',
        line: 12,
        seconds: 0.5,
        result: 'passed',
      },
      {
        suite: 'pytest',
        className: 'tests.test_api',
        name: 'test_bad',
        seconds: 1234.5,
        result: 'failed',
        message: 'AssertionError: assert 1 == 2\ndef test_bad():\n> assert 1 == 2 <b>',
      },
      { suite: 'pytest', name: 'test_broken', result: 'errored', message: 'fixture not found' },
      { suite: 'pytest', name: 'test_later', result: 'skipped', message: 'needs a device' },
    ])
  })

  it('names nested suites from the outside in', () => {
    const { cases } = parse(
      '<testsuite name="a"><testsuite name="b"><testcase name="c"/></testsuite><testcase name="d"/></testsuite>',
    )

    expect(cases.map((one) => `${one.suite}: ${one.name}`)).toEqual(['a > b: c', 'a: d'])
  })

  it('counts a test that passed in the end as passed, and says that it failed first', () => {
    const { cases } = parse(`<testsuite name="s">
      <testcase name="flaky"><flakyFailure message="timeout"><stackTrace>at x</stackTrace></flakyFailure></testcase>
      <testcase name="bad"><failure message="no"/><rerunFailure message="no again"/></testcase></testsuite>`)

    expect(cases).toMatchObject([
      { result: 'passed', message: 'failed first, then passed: timeout' },
      { result: 'failed', message: 'no' },
    ])
  })

  it('lets the graver of two verdicts stand', () => {
    const { cases } = parse(
      '<testsuite><testcase name="a"><failure message="f"/><error message="e"/></testcase></testsuite>',
    )

    expect(cases).toMatchObject([{ result: 'errored', message: 'e' }])
  })

  it('keeps cases of the same name and counts them', () => {
    const { cases, problems } = parse(
      '<testsuite name="s"><testcase name="a"/><testcase name="a"/><testcase name="a"/></testsuite>',
    )

    expect(cases).toHaveLength(3)
    expect(problems).toEqual(['2 cases have the name of an earlier one; all are kept'])
  })

  it.each([
    [
      'a document type',
      '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite>&b;</testsuite>',
      /document type/,
    ],
    ['an entity nobody defined', '<testsuite><testcase name="&boom;"/></testsuite>', /line 1, column \d+/],
    ['text that is no XML', 'PASS', /line 1, column/],
    ['an HTML page', '<html><body/></html>', /<html>/],
    ['nothing', '', /line 1, column 1/],
    [
      'a case inside a case',
      '<testsuite><testcase name="a"><testcase name="b"/></testcase></testsuite>',
      /inside another/,
    ],
    ['an encoding nobody knows', '<?xml version="1.0" encoding="klingon"?><testsuite/>', /klingon/],
  ])('is refused with the place if it has %s', (_, xml, problem) => {
    const report = parse(xml)

    expect(report.problems).toHaveLength(1)
    expect(report.problems[0]).toMatch(problem)
  })

  it('keeps what came before the place where it is cut off', () => {
    const { cases, problems } = parse('<testsuite name="s">\n<testcase name="a"/>\n<testcase name="b"><fail')

    expect(cases).toMatchObject([{ name: 'a' }])
    expect(problems[0]).toMatch(/^line 3, column/)
  })

  it('says which limit it is over', () => {
    const many = `<testsuite>${'<testcase name="a"/>'.repeat(6)}</testsuite>`

    expect(parse(many, { cases: 5 })).toMatchObject({
      cases: { length: 5 },
      problems: [expect.stringContaining('more than 5 cases'), expect.anything()],
    })
    expect(parse(many, { bytes: 50 })).toMatchObject({ cases: [], problems: [expect.stringContaining('at most 50')] })
    expect(parse('<testsuite>'.repeat(200)).problems[0]).toContain('deeper than 100')
  })

  it('cuts a long message at its limit and not inside a character', () => {
    const { cases } = parse(
      `<testsuite><testcase name="a"><failure>${'é'.repeat(10_000)}</failure></testcase></testsuite>`,
    )

    const message = cases[0]?.message ?? ''
    expect(Buffer.byteLength(message)).toBeLessThanOrEqual(8 * 1024)
    expect(message).toMatch(/^é{4000,}…$/)
  })

  it('reads UTF-16 and Latin-1 as they are declared', () => {
    const utf16 = Buffer.from('\ufeff<testsuite><testcase name="é"/></testsuite>', 'utf16le')
    const latin = Buffer.from(
      '<?xml version="1.0" encoding="ISO-8859-1"?><testsuite><testcase name="é"/></testsuite>',
      'latin1',
    )

    for (const bytes of [utf16, latin])
      expect(parseJUnit(bytes)).toMatchObject({ cases: [{ name: 'é' }], problems: [] })
  })

  it('never makes the reader fail', () => {
    const scrap = fc.constantFrom(
      '<testsuite name="s">',
      '<testcase name="a" time="x" line="-1">',
      '<failure>',
      '</failure>',
      '</testcase>',
      '</testsuite>',
      '<![CDATA[',
      ']]>',
      '&amp;',
      '&#0;',
      '<!--',
      '-->',
      '<?xml?>',
      '\0',
      '<a:b xmlns:a="c">',
      '"',
      'é',
    )
    fc.assert(
      fc.property(fc.array(scrap, { maxLength: 30 }), fc.uint8Array({ maxLength: 20 }), (parts, noise) => {
        const { cases, problems } = parseJUnit(Buffer.concat([Buffer.from(parts.join('')), noise]))
        for (const one of cases) expect(one.name.length).toBeLessThanOrEqual(1_000)
        expect(problems.length).toBeLessThanOrEqual(20)
      }),
      { numRuns: 5_000 },
    )
  })
})
