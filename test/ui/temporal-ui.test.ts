import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Browser, chromium, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { environment } from '../../src/config/environment.ts'
import { findProgram } from '../../src/embedded/debian.ts'
import { BASE_IMAGES } from '../../src/embedded/images.ts'
import { type System, startSystem } from '../helpers/system.ts'

/**
 * What an operator reads in the Temporal UI, in a real browser. The pictures of `docs/temporal-ui.md` are taken here:
 *
 *     SCREENSHOTS=docs/images npm test -- test/ui
 */
const { SCREENSHOTS } = environment()
const executablePath = findProgram('chromium', environment().PATH ?? '')
if (executablePath === undefined) {
  const why = 'no chromium on the PATH: the Temporal UI is not looked at'
  if (environment().CI === 'true') throw new Error(why)
  console.warn(`skipped: ${why}`)
}

const FLAGS =
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'
const SPEC = `image: ${BASE_IMAGES.base}
test:
  unit: echo tested
  lint: { needs: [unit], run: echo linted }
e2e: echo exercised
deploy:
  staging: echo to staging
  production: echo to production
`

let system: System
let browser: Browser
let page: Page
let waiting = 0
beforeAll(async () => {
  if (executablePath === undefined) return
  system = await startSystem()
  const passed = await system.push({ '.penstock.yml': `image: ${BASE_IMAGES.base}\ntest: echo fine\n` }, 'logo')
  const failed = await system.push({ '.penstock.yml': SPEC.replace('echo linted', 'exit 3') }, 'typo')
  waiting = await system.push({ '.penstock.yml': SPEC })
  await system.ended(passed, 180)
  await system.ended(failed, 180)
  await system.until('the gate', async () => (await system.run(waiting)).waiting?.kind === 'approval', 180)
  browser = await chromium.launch({ executablePath, args: FLAGS.split(' ') })
  page = await browser.newPage({ viewport: { width: 1280, height: 800 } })
}, 600_000)
afterAll(async () => {
  await browser?.close()
  await system?.dispose()
}, 120_000)

async function open(path: string): Promise<void> {
  await page.goto(`${system.embedded.addresses.temporalUi}/namespaces/default${path}`)
}

/** What is written on the page. Markdown is rendered in frames of its own; capitals are a matter of style. */
async function text(): Promise<string> {
  // biome-ignore lint/performance/useDomNodeTextContent: what is hidden is not shown
  const frames = page.frames().map((frame) => frame.locator('body').innerText({ timeout: 5_000 }))
  const texts = await Promise.allSettled(frames)
  return texts
    .map((one) => (one.status === 'fulfilled' ? one.value : ''))
    .join('\n')
    .toLowerCase()
}

/** Returns once all these words are there; the page never settles by itself while a run is open. */
async function shows(...words: readonly string[]): Promise<void> {
  for (const word of words) {
    const seen = async () => {
      const now = await text()
      // The UI loads its parts one by one; where one of them fails, it asks for a refresh itself.
      if (now.includes("there's an error")) await page.reload()
      return now
    }
    await expect.poll(seen, { timeout: 60_000, message: `"${word}" on ${page.url()}` }).toContain(word.toLowerCase())
  }
}

async function shoot(name: string): Promise<void> {
  if (SCREENSHOTS === undefined) return
  mkdirSync(SCREENSHOTS, { recursive: true })
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) })
}

describe.skipIf(executablePath === undefined)('in the Temporal UI', () => {
  it('the list names runs and jobs as people do, each with its status', async () => {
    await open('/workflows')

    await shows('acme/web#1', 'acme/web#2', `acme/web#${waiting}`, `acme/web#${waiting}/test/unit/1`)
    await shows('Completed', 'Failed', 'Running', 'pipelineRun', 'job')
    await shoot('temporal-ui-list')
  }, 180_000)

  it('an operator finds what waits by a search attribute', async () => {
    await open(`/workflows?query=${encodeURIComponent('PenstockStatus="waiting" AND PenstockRepo="acme/web"')}`)

    await shows(`acme/web#${waiting}`)
    await expect.poll(text).not.toContain('acme/web#1')
  }, 180_000)

  it('a run that waits shows what happened, in words', async () => {
    const run = encodeURIComponent(`acme/web#${waiting}`)
    await open(`/workflows/${run}`)
    await page.waitForURL(/timeline|history/)

    await page.setViewportSize({ width: 1280, height: 1200 })
    await shows('beginTry • spec and plan', 'test / unit', 'e2e / e2e', 'signoff expires')
    await shoot('temporal-ui-run')
  }, 180_000)

  it('a run that waits shows why, and for whom, and where to look', async () => {
    const { runId } = await workflowOf(waiting)
    await page.setViewportSize({ width: 1280, height: 1000 })
    await open(`/workflows/${encodeURIComponent(`acme/web#${waiting}`)}/${runId}/user-metadata`)

    await shows('push to master by ada', `/api/v1/runs/${waiting}`, 'waits (approval)', 'may approve: tess, theo')
    await shows('staging')
    await shoot('temporal-ui-details')
  }, 180_000)
})

async function workflowOf(number: number): Promise<{ readonly runId: string }> {
  const id = encodeURIComponent(`acme/web#${number}`)
  const answer = await fetch(`${system.embedded.addresses.temporalUi}/api/v1/namespaces/default/workflows/${id}`)
  const body = (await answer.json()) as { workflowExecutionInfo: { execution: { runId: string } } }
  return body.workflowExecutionInfo.execution
}
