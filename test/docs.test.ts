import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const PAGES = ['README.md', ...markdownIn('docs')]

function markdownIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name))
}

/** As a page is read: what stands in blocks of code is no link. */
function prose(page: string): string {
  return readFileSync(join(ROOT, page), 'utf8').replace(/^```[\s\S]*?^```/gm, '')
}

/** The anchors that a forge makes of a page's headings. */
function anchors(page: string): Set<string> {
  const headings = [...prose(page).matchAll(/^#{1,6} +(.+)$/gm)].map((match) => match[1] ?? '')
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}

function brokenLinks(page: string): string[] {
  const links = [...prose(page).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? '')
  return links.filter((link) => {
    if (/^[a-z]+:/.test(link)) return false
    const [path = '', anchor] = link.split('#')
    const target = path === '' ? page : relative(ROOT, resolve(ROOT, dirname(page), path))
    if (target.startsWith('..') || !existsSync(join(ROOT, target))) return true
    return anchor !== undefined && target.endsWith('.md') && !anchors(target).has(anchor)
  })
}

describe('the documents', () => {
  it.each(PAGES)('lead to what is there: %s', (page) => {
    expect(brokenLinks(page)).toEqual([])
  })

  it('are all found from the index', () => {
    const index = prose('docs/README.md') + prose('docs/decisions/README.md').replaceAll('](', '](decisions/')
    const missing = PAGES.filter((page) => page.startsWith('docs/') && !page.endsWith('README.md')).filter(
      (page) => !index.includes(`](${relative('docs', page)})`),
    )

    expect(missing).toEqual([])
  })

  it('name only scripts that package.json has, and tests that are there', () => {
    const wrong = PAGES.flatMap((page) => {
      const text = readFileSync(join(ROOT, page), 'utf8')
      const scripts = [...text.matchAll(/npm run (?:--silent )?([a-z]+)/g)].map((match) => match[1] ?? '')
      const tests = [...text.matchAll(/npm test -- ([^`\n#]+)/g)]
        .flatMap((match) => (match[1] ?? '').trim().split(/\s+/))
        .filter((word) => word !== 'FILE')
      const { scripts: known } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
        scripts: Record<string, string>
      }
      return [
        ...scripts.filter((name) => !Object.hasOwn(known, name)),
        ...tests.filter((name) => !existsSync(join(ROOT, name))),
      ].map((name) => `${page}: ${name}`)
    })

    expect(wrong).toEqual([])
  })
})
