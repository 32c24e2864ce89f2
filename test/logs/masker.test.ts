import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compileMasker, createMasker, type Masker } from '../../src/logs/masker.ts'
import { needlesOf, type SecretValue } from '../../src/logs/needles.ts'

const PEM = `-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj
/PvYMzvQ+x5kq2Hc7YhTt1xL9yXyN2C5uQkG1m4TnRzZ8w1nQ6o=
-----END PRIVATE KEY-----
`

function secret(value: string): SecretValue[] {
  return [{ name: 'S', value }]
}

function mask(secrets: readonly SecretValue[], text: string | Buffer): string {
  const masker = createMasker(secrets)
  return Buffer.concat([masker.push(Buffer.from(text)).out, masker.flush().out]).toString()
}

/** What the whole must become, by the definition: every byte of any occurrence, overlapping ones merged. */
function maskedByDefinition(secrets: readonly SecretValue[], text: Buffer): string {
  const found: [number, number][] = []
  for (const needle of needlesOf(secrets)) {
    for (let at = text.indexOf(needle); at >= 0; at = text.indexOf(needle, at + 1)) found.push([at, at + needle.length])
  }
  found.sort((a, b) => a[0] - b[0] || a[1] - b[1])
  const merged: [number, number][] = []
  for (const [start, end] of found) {
    const last = merged.at(-1)
    if (last && start < last[1]) last[1] = Math.max(last[1], end)
    else merged.push([start, end])
  }
  let out = ''
  let at = 0
  for (const [start, end] of merged) {
    out += `${text.toString('latin1', at, start)}***`
    at = end
  }
  return out + text.toString('latin1', at)
}

function pieces(text: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...new Set(cuts.map((cut) => cut % (text.length + 1)))].sort((a, b) => a - b)
  return [...places, text.length].map((end, i) => text.subarray(i === 0 ? 0 : places[i - 1], end))
}

function pushAll(masker: Masker, parts: readonly Buffer[]): { text: string; ends: { raw: number; out: number }[] } {
  const out: Buffer[] = []
  const ends: { raw: number; out: number }[] = []
  let bytes = 0
  for (const part of parts) {
    const masked = masker.push(part)
    out.push(masked.out)
    bytes += masked.out.length
    ends.push({ raw: masked.rawEnd, out: bytes })
  }
  out.push(masker.flush().out)
  return { text: Buffer.concat(out).toString('latin1'), ends }
}

describe('the masker', () => {
  it('replaces the forms in which shells, JSON, URLs and encoders write a secret', () => {
    const value = `p@ss'w$rd/"x y\\`
    const forms = [
      value,
      JSON.stringify(value).slice(1, -1),
      encodeURIComponent(value),
      new URLSearchParams({ v: value }).toString().slice(2),
      value.replaceAll("'", `'\\''`),
      value.replaceAll('$', '$$$$'),
      Buffer.from(value).toString('hex'),
      Buffer.from(value).toString('hex').toUpperCase(),
    ]

    for (const form of forms) expect(mask(secret(value), `a ${form} b`)).toBe('a *** b')
  })

  it.each(['', 'u', 'us', 'user:'])('leaves nothing readable of a secret in base64 after %j', (before) => {
    const value = 'correct-horse-battery'
    for (const kind of ['base64', 'base64url'] as const) {
      const encoded = Buffer.from(`${before}${value} and more`).toString(kind)

      const masked = mask(secret(value), encoded)

      expect(masked).toContain('***')
      const readable = Buffer.from(masked.replace('***', '@').split('@')[0] ?? '', kind).toString('latin1')
      expect(readable.length).toBeLessThanOrEqual(before.length + 1)
    }
  })

  it('finds a key line by line, joined by spaces, with CRLF, escaped for JSON, and as base64 prints it', () => {
    const writings = [
      PEM,
      PEM.replaceAll('\n', ' '),
      PEM.replaceAll('\n', '\r\n'),
      JSON.stringify(PEM),
      Buffer.from(PEM).toString('base64').replace(/.{76}/g, '$&\n'),
    ]

    for (const writing of writings) {
      const masked = mask(secret(PEM), writing)
      expect(masked).not.toMatch(/MIIEvQ|PvYMzvQ|LS0tLS1C|TnRzZ8w1/)
      expect(masked.replaceAll('***', '').length).toBeLessThan(20)
    }
  })

  it('masks nothing for secrets and lines of fewer than 8 bytes', () => {
    expect(mask(secret('abc'), 'abcabcabc')).toBe('abcabcabc')
    expect(mask(secret('{\n  "key": "0123456789"\n}'), '{ }\n')).toBe('{ }\n')
  })

  it('holds back only what can still become a secret', () => {
    const masker = createMasker(secret('hunter2-secret!!'))

    expect(masker.push(Buffer.from('Password: ')).out.toString()).toBe('Password: ')
    expect(masker.push(Buffer.from('hunt')).out.toString()).toBe('')
    expect(masker.push(Buffer.from('ing')).out.toString()).toBe('hunting')
    expect(masker.push(Buffer.from('hunter2-secret!!')).out.toString()).toBe('***')
    expect(masker.push(Buffer.from('hun')).rawEnd).toBe(33)
    expect(masker.flush().out.toString()).toBe('hun')
  })

  it('finds a secret that comes one byte at a time', () => {
    const text = Buffer.from(`${'x'.repeat(16_380)}correct-horse-battery!`)
    const masker = createMasker(secret('correct-horse-battery'))

    const { text: masked } = pushAll(
      masker,
      Array.from(text, (byte) => Buffer.of(byte)),
    )

    expect(masked).toBe(`${'x'.repeat(16_380)}***!`)
  })

  it('gives for any secrets and any split what masking the whole gives, and goes on so from any boundary', () => {
    // Few letters make overlaps, self-overlaps and false starts common; lengths go beyond what the table holds.
    const letters = fc.constantFrom('a', 'b', '\n')
    const word = fc.array(letters, { minLength: 8, maxLength: 40 }).map((list) => list.join(''))
    const secretsAndText = fc.array(word, { minLength: 1, maxLength: 3 }).chain((values) =>
      fc.record({
        values: fc.constant(values),
        text: fc
          .array(
            fc.oneof(
              letters,
              fc.constantFrom(...values),
              fc.constantFrom(...values).map((v) => v.slice(0, -1)),
            ),
            {
              maxLength: 25,
            },
          )
          .map((list) => Buffer.from(list.join(''))),
        cuts: fc.array(fc.nat(600), { maxLength: 12 }),
        resumeAt: fc.nat(12),
      }),
    )
    fc.assert(
      fc.property(secretsAndText, ({ values, text, cuts, resumeAt }) => {
        const secrets = values.map((value) => ({ name: 'S', value }))
        const start = compileMasker(secrets)
        const expected = maskedByDefinition(secrets, text)

        const streamed = pushAll(start(), pieces(text, cuts))

        if (streamed.text !== expected) return false
        const end = streamed.ends[resumeAt % streamed.ends.length]
        if (!end) return true
        const rest = pushAll(start(end.raw), [text.subarray(end.raw)]).text
        return streamed.text.slice(0, end.out) + rest === expected
      }),
      { numRuns: 10_000 },
    )
  }, 120_000)

  it('does not fail over 50 secrets and one of 64 KiB, nor over a text of nothing but the start of one', () => {
    let seed = 1
    const random = (length: number) => {
      let text = ''
      while (text.length < length) {
        seed = (seed * 48_271) % 2_147_483_647
        text += seed.toString(36)
      }
      return text.slice(0, length)
    }
    const long = random(65_536)
    const secrets = Array.from({ length: 50 }, (_, i) => ({ name: `S${i}`, value: i === 0 ? long : random(40) }))
    const start = compileMasker(secrets)
    const text = Buffer.from(`${long.slice(0, 65_535)}-${long}-${Buffer.from(long).toString('base64')}\n`)

    const { text: masked } = pushAll(start(), pieces(text, [1, 1_000, 70_000, 100_000]))

    // 65,536 bytes decide all but the last character of their base64.
    expect(masked.slice(0, 65_536)).toBe(`${long.slice(0, 65_535)}-`)
    expect(masked.slice(65_536)).toMatch(/^\*{3}-\*{3}.==\n$/)
  })

  it('keeps what a flood of one growing secret needs, and no more than one mask of it', () => {
    const masker = createMasker(secret('aaaaaaaaaa'))
    const flood = Buffer.alloc(1024 * 1024, 'a')
    for (let i = 0; i < 16; i++) expect(masker.push(flood).out.length).toBe(0)

    expect(masker.push(Buffer.from('\n')).out.toString()).toBe('***\n')
  })

  it('prints how fast it is', () => {
    const secrets = Array.from({ length: 10 }, (_, i) => ({ name: `S${i}`, value: `secret-value-${i}-0123456789` }))
    const lines = Buffer.from(
      Array.from({ length: 13_000 }, (_, i) =>
        `${String(i).padStart(8, '0')} ${'lorem ipsum '.repeat(6)}`.slice(0, 79),
      ).join('\n'),
    )
    const masker = createMasker(secrets)
    const begun = process.cpuUsage()
    let bytes = 0
    for (let i = 0; i < 64; i++) bytes += masker.push(lines).out.length
    const seconds = process.cpuUsage(begun).user / 1e6
    console.log(`masker: ${(bytes / 1e6 / seconds).toFixed(0)} MB per second of processor time with 10 secrets`)

    expect(bytes).toBeGreaterThan(60 * lines.length)
  })
})
