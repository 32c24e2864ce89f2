import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { DescribedUnit } from '../../src/pools/where.ts'
import { checkWhere, checkWhereFor, evaluateWhere, nearestUnit, propertyTypes } from '../../src/pools/where.ts'

const PI: DescribedUnit = {
  unit: 'pi-4',
  labels: ['arch=arm64', 'camera'],
  properties: { arch: 'arm64', ram: 8, volt: 3.3, camera: true, 'serial-no': 'X1' },
}
const NUC: DescribedUnit = {
  unit: 'nuc',
  labels: ['arch=x86'],
  properties: { arch: 'x86', ram: 32, volt: 5, camera: false },
}

function fits(where: string, unit = PI): boolean {
  return evaluateWhere(where, unit).fits
}

describe('evaluateWhere', () => {
  test.each([
    ["arch == 'arm64'", true],
    ["arch == 'x86'", false],
    ['ram >= 8 && camera', true],
    ['ram > 8 || !camera', false],
    ['ram == 8.0', true],
    ['ram < 8.5', true],
    ['volt > 3', true],
    ['volt in [3.3, 5]', true],
    ['ram in [8.0, 16.0]', true],
    ['ram in [9.0, 16.0]', false],
    ['volt in [-3, 3]', false],
    ['ram + 0.5 == 8.5', true],
    ["unit in ['pi-4', 'pi-5']", true],
    ["'camera' in labels", true],
    ["labels.exists(l, l.startsWith('arch='))", true],
    ["labels.all(l, l.contains('arch'))", false],
    ["properties['serial-no'] == 'X1'", true],
    ['has(properties.camera) && !has(properties.gpu)', true],
    ["gpu == 'a' || ram == 8", true],
  ])('%s is %s for the unit', (where, expected) => {
    expect(checkWhere(where)).toBeUndefined()
    expect(fits(where)).toBe(expected)
    expect(fits(where)).toBe(expected)
  })

  test('a property that the unit lacks does not fit, and says so', () => {
    const none = { fits: false, why: 'unit "pi-4" has no property "gpu"' }

    expect(evaluateWhere('gpu > 1', PI)).toEqual(none)
    expect(evaluateWhere('properties.gpu > 1', PI)).toEqual(none)
    expect(evaluateWhere('arch > 1', PI)).toMatchObject({ fits: false, why: expect.stringContaining('pi-4') })
    expect(evaluateWhere('ram', PI)).toMatchObject({
      fits: false,
      why: expect.stringContaining('neither true nor false'),
    })
  })

  test('whole numbers beyond what is exact are numbers all the same', () => {
    const big = { ...PI, properties: { size: 1e300, low: -(2 ** 60) } }

    expect(fits('size > 1 && low < 0', big)).toBe(true)
  })

  test.each(['constructor', 'toString', 'hasOwnProperty', 'valueOf', '__defineGetter__'])(
    '%s is a property like any other, or none',
    (name) => {
      const properties = Object.fromEntries([[name, 'x']])
      const where = `properties['${name}'] == 'x'`

      expect(evaluateWhere(where, { ...PI, properties })).toEqual({ fits: true })
      expect(evaluateWhere(where, PI)).toEqual({ fits: false, why: `unit "pi-4" has no property "${name}"` })
      expect(fits(`has(properties.${name})`)).toBe(false)
      expect(fits(`${name} == 'x'`)).toBe(false)
    },
  )

  test('a property __proto__ changes nothing', () => {
    const properties = JSON.parse('{"__proto__": "x", "ram": 8}') as DescribedUnit['properties']

    expect(fits('ram == 8 && has(properties.ram)', { ...PI, properties })).toBe(true)
    expect(fits("properties['__proto__'] == 'x'", PI)).toBe(false)
    expect(({} as { ram?: unknown }).ram).toBeUndefined()
    expect(fits("unit == 'pi-4'", { ...PI, properties: { unit: 'other', labels: 'none' } })).toBe(true)
  })
})

describe('checkWhere', () => {
  test.each([
    ['ram ==', 6, 'EOF'],
    ['ram = 4', 4, 'Unexpected character'],
    ["unit + 'x'", 0, 'is a string, not true or false'],
    ['', 0, 'is empty'],
    ['ram > 4 && unit', 0, 'bool operands'],
    ["ram > 4 && unit.matches('(a+)+$')", 11, 'a pattern could take hours'],
    ['unit.substring(1) == 1', 0, '"substring" cannot be used'],
    ['labels.exists(a, labels.exists(b, a == b))', 17, 'cannot be used within another'],
    ['__proto__ == 1', 0, '__proto__'],
    [`unit == '${'x'.repeat(1000)}'`, 1000, 'is longer than 1000 characters'],
  ])('%s is refused at %i: %s', (where, start, message) => {
    expect(checkWhere(where)).toMatchObject({ start, message: expect.stringContaining(message) })
  })

  test('says what to use instead of a pattern', () => {
    expect(checkWhere("unit.matches('a')")?.suggestion).toBe('use contains, startsWith, endsWith, == or in')
    expect(checkWhere("unit.startWith('a')")?.suggestion).toBe('did you mean "startsWith"?')
  })
})

describe('checkWhereFor', () => {
  const types = propertyTypes([PI, NUC])

  test('types of properties are those of all units', () => {
    expect(types).toEqual({ arch: 'string', ram: 'int', volt: 'double', camera: 'boolean', 'serial-no': 'string' })
    expect(propertyTypes([PI, { properties: { arch: 1, ram: 0.5 } }])).toMatchObject({ arch: 'any', ram: 'double' })
  })

  test.each([
    "arch == 'arm64' && ram >= 4 && volt > 3 && camera",
    'ram + 0.5 > volt && volt == 5 && volt in [3, 5] && ram in [4.0, 8.0]',
    "properties['serial-no'] == 'X1'",
    "unit == 'x' && size(labels) > 0 && labels.exists(arc, arc == 'x')",
    'has(properties.camera)',
  ])('%s is right', (where) => {
    expect(checkWhereFor(where, types)).toBeUndefined()
  })

  test.each([
    ["arhc == 'x'", 0, 'no unit has a property "arhc"', 'did you mean "arch"?'],
    ['ram > 1 && properties.screen', 11, 'no unit has a property "screen"', 'known are arch, camera'],
    ['ram == "8"', 0, 'no such overload: int == string', undefined],
    ['arch > 1', 0, 'no such overload: string > int', undefined],
    ['ram', 0, 'is a int, not true or false', undefined],
    ['constructor == 1', 0, 'no unit has a property "constructor"', 'known are'],
  ])('%s is refused at %i: %s; %s', (where, start, message, suggestion) => {
    expect(checkWhereFor(where, types)).toMatchObject({
      start,
      message,
      ...(suggestion === undefined ? {} : { suggestion: expect.stringContaining(suggestion) }),
    })
  })

  test('properties with names that are words of the language or of JavaScript are harmless', () => {
    const odd = { in: 'string', true: 'int', constructor: 'string', unit: 'int', __proto__: 'string' } as const

    expect(checkWhereFor("unit == 'a' && constructor == 'b' && properties['in'] == 'c'", odd)).toBeUndefined()
  })
})

describe('nearestUnit', () => {
  test('is the one for which the most holds, with what does not and what it has instead', () => {
    const where = "arch == 'arm64' && ram >= 16 && (camera || volt > 4) && labels.exists(l, l == 'camera')"

    expect(evaluateWhere(where, PI).fits).toBe(false)
    expect(nearestUnit({ where, labels: ['camera', 'gpu'] }, [NUC, PI])).toEqual({
      unit: 'pi-4',
      failed: ['ram >= 16', 'gpu'],
      values: { ram: 8 },
    })
    expect(nearestUnit({ where: "(arch == 'a' || arch == 'b') == true", labels: [] }, [PI])).toEqual({
      unit: 'pi-4',
      failed: [`(arch == "a" || arch == "b") == true`],
      values: { arch: 'arm64' },
    })
    expect(nearestUnit({ where, labels: [] }, [])).toBeUndefined()
  })
})

describe('what somebody hostile writes', () => {
  const list = (length: number) => `[${Array.from({ length }, () => '1').join(',')}]`

  test.each([
    ['deep parentheses', `${'('.repeat(400)}true${')'.repeat(400)}`],
    ['deep negation', `${'!'.repeat(990)}true`],
    ['deep lists', `${'['.repeat(400)}${']'.repeat(400)} == []`],
    ['a huge list', `size(${list(400)}) > 1`],
    ['many nodes', `${'1+'.repeat(490)}1 > 1`],
    ['nested macros', `${list(90)}.all(a,${list(90)}.all(b,${list(90)}.all(c, a+b+c > 0)))`],
    ['nested maps', `size(${list(90)}.map(a,${list(90)}.map(b,${list(90)}.map(c, a)))) > 0`],
    ['doubling', `cel.bind(a,'xxxxxxxxxx',cel.bind(b,a+a+a+a,cel.bind(c,b+b+b+b,size(c+c+c+c) > 1)))`],
    ['a pattern', `'${'a'.repeat(40)}!'.matches('^(a+)+$')`],
  ])('%s is refused, at once', (_name, where) => {
    const started = performance.now()

    const fit = evaluateWhere(where, PI)
    const problem = checkWhere(where)
    const near = nearestUnit({ where, labels: [] }, [PI])

    expect(problem).toBeDefined()
    expect(fit).toEqual({ fits: false, why: expect.stringContaining(problem?.message ?? 'refused') })
    expect(near?.failed).toEqual([])
    expect(performance.now() - started).toBeLessThan(500)
  })

  test('the most that is let through is evaluated in no time', () => {
    const where = `${list(100)}.all(x, x + x + x + x + x + x + x > 0) && ${list(80)}.exists(x, x > 9)`
    const started = performance.now()

    expect(checkWhere(where)).toBeUndefined()
    expect(fits(where)).toBe(false)
    expect(performance.now() - started).toBeLessThan(500)
  })

  test('whatever is written, the answer is a problem or a fit', () => {
    const word = fc.constantFrom(
      ...[
        'unit',
        'labels',
        'ram',
        '==',
        '&&',
        '||',
        '!',
        '(',
        ')',
        '[',
        ']',
        "'x'",
        '1',
        '1.5',
        '.',
        'all',
        'in',
        '?',
        ':',
        'x',
        ',',
      ],
    )
    const text = fc.oneof(
      fc.string({ maxLength: 60 }),
      fc.array(word, { maxLength: 14 }).map((words) => words.join(' ')),
    )
    fc.assert(
      fc.property(text, (where) => {
        const problem = checkWhere(where)
        if (problem === undefined) {
          expect(typeof evaluateWhere(where, PI).fits).toBe('boolean')
          nearestUnit({ where, labels: [] }, [PI, NUC])
          checkWhereFor(where, propertyTypes([PI, NUC]))
        } else {
          expect(problem.start).toBeLessThanOrEqual(where.length)
          expect(problem.end).toBeGreaterThanOrEqual(problem.start)
        }
      }),
      { numRuns: 3000 },
    )
  })
})
