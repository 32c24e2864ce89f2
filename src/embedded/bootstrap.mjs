// What `npm run …` starts: plain JavaScript without packages, because it runs before any are installed.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..')
const DIST = path.join(ROOT, 'dist')
const LEAST_NODE = [20, 19]
const SOURCES = ['src', 'workflows', 'activities', 'worker']
const ENTRIES = { demo: 'demo.js', start: 'main-start.js', down: 'main-down.js', bench: 'bench.js' }
const IN_CI = process.env.CI !== undefined && !['', '0', 'false'].includes(process.env.CI)

class Refused extends Error {}

async function main([command, ...args]) {
  checkNode()
  if (command === 'install') return install()
  if (command === 'build') {
    await install()
    return build()
  }
  if (command === 'test') return test(args)
  const entry = ENTRIES[command]
  if (entry === undefined) {
    throw new Refused(
      `usage: node src/embedded/bootstrap.mjs <${[...Object.keys(ENTRIES), 'test', 'build'].join('|')}> [arguments]`,
    )
  }
  await checkGit()
  await install()
  await build()
  return (
    await run(process.execPath, ['--enable-source-maps', path.join(DIST, 'src', 'embedded', entry), ...args], {
      stdout: 'inherit',
    })
  ).code
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  const [needMajor, needMinor] = LEAST_NODE
  if (major < needMajor || (major === needMajor && minor < needMinor)) {
    throw new Refused(`Node.js ${LEAST_NODE.join('.')} or newer is needed; this is ${process.versions.node}`)
  }
}

async function checkGit() {
  if ((await run('git', ['--version'], { quiet: true })).code !== 0)
    throw new Refused('git is needed: install it and try again')
}

/** `npm ci`, when packages are missing or those of another lock file. */
async function install() {
  const lock = path.join(ROOT, 'package-lock.json')
  const stamp = path.join(ROOT, 'node_modules', '.penstock-lock')
  const wanted = digest(readFileSync(lock))
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return 0
  // Installed by hand: npm's own record is newer than the lock file then.
  const record = path.join(ROOT, 'node_modules', '.package-lock.json')
  if (!existsSync(stamp) && existsSync(record) && statSync(record).mtimeMs >= statSync(lock).mtimeMs) return 0
  say('installing packages (npm ci)')
  const npm = process.env.npm_execpath
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error']
  // Inherited from `npm run`, these settings would make the inner npm think it runs in another place.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^npm_(config_|package_|lifecycle_)/.test(name)),
  )
  const { code } =
    npm !== undefined && existsSync(npm)
      ? await run(process.execPath, [npm, ...args], { env })
      : await run('npm', args, { env })
  if (code !== 0) throw new Refused('`npm ci` failed; see above')
  writeFileSync(stamp, wanted)
  return 0
}

/** Compiles and bundles, when a source has changed since. */
async function build() {
  const stamp = path.join(DIST, '.build-stamp')
  const wanted = sourcesDigest()
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return 0
  say('building')
  mkdirSync(DIST, { recursive: true })
  rmSync(stamp, { force: true })
  await need('tsc', ['-p', '.'])
  for (const folder of SOURCES) copyAssets(folder)
  const bundler = `
    import { writeFileSync } from 'node:fs'
    import { bundleWorkflowCode } from '@temporalio/worker'
    const { code } = await bundleWorkflowCode({ workflowsPath: ${JSON.stringify(path.join(DIST, 'workflows', 'index.js'))} })
    writeFileSync(${JSON.stringify(path.join(DIST, 'workflow-bundle.js'))}, code)
  `
  const { code, output } = await run(process.execPath, ['--input-type=module', '--eval', bundler], { quiet: true })
  if (code !== 0) throw new Refused(`the workflows cannot be bundled:\n${output}`)
  writeFileSync(stamp, wanted)
  return 0
}

function* filesOf(folder) {
  for (const entry of readdirSync(path.join(ROOT, folder), { withFileTypes: true })) {
    const name = path.join(folder, entry.name)
    if (entry.isDirectory()) yield* filesOf(name)
    else if (entry.isFile()) yield name
  }
}

function sourcesDigest() {
  const all = createHash('sha256')
  for (const file of [
    'package-lock.json',
    'tsconfig.json',
    ...SOURCES.flatMap((folder) => [...filesOf(folder)]).sort(),
  ]) {
    all.update(`${file}\0${digest(readFileSync(path.join(ROOT, file)))}\0`)
  }
  return all.digest('hex')
}

function digest(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}

/** What the compiler leaves: scripts, styles, templates. */
function copyAssets(folder) {
  for (const file of filesOf(folder)) {
    if (/\.(ts|tsx|mjs)$/.test(file)) continue
    mkdirSync(path.dirname(path.join(DIST, file)), { recursive: true })
    cpSync(path.join(ROOT, file), path.join(DIST, file))
  }
}

/** Every check and every test; the last line counts them, a check as one. */
async function test(args) {
  await checkGit()
  await install()
  await build()
  const { code: prepared } = await run(process.execPath, [path.join(DIST, 'src', 'embedded', 'main-test-packages.js')])
  if (prepared !== 0) throw new Refused('what the tests need could not be installed; see above')
  const counts = { passed: 0, failed: 0, skipped: 0 }
  if (args.length === 0) {
    for (const [name, tool, toolArgs] of CHECKS) {
      const { code, output } = await run(bin(tool), toolArgs, { quiet: true })
      say(`${code === 0 ? 'ok    ' : 'FAILED'} ${name}`)
      if (code === 0) counts.passed++
      else {
        counts.failed++
        say(output)
      }
    }
  }
  const report = path.join(DIST, 'vitest.json')
  rmSync(report, { force: true })
  const { code } = await run(bin('vitest'), [
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...args,
  ])
  const skipped = []
  if (existsSync(report)) {
    const result = JSON.parse(readFileSync(report, 'utf8'))
    counts.passed += result.numPassedTests
    counts.failed += result.numFailedTests
    counts.skipped += result.numPendingTests + result.numTodoTests
    for (const file of result.testResults) {
      // A file that could not be loaded has no tests to count.
      if (file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed')) counts.failed++
      for (const { status, fullName } of file.assertionResults) {
        if (['pending', 'skipped', 'todo', 'disabled'].includes(status))
          skipped.push(`${path.relative(ROOT, file.name)}: ${fullName}`)
      }
    }
  }
  if (code !== 0 && counts.failed === 0) counts.failed++
  if (skipped.length > 0) say(`skipped:\n  ${skipped.join('\n  ')}`)
  if (IN_CI && counts.skipped > 0) {
    say('in CI nothing may be skipped')
    counts.failed++
  }
  console.log(
    `${counts.passed} passed, ${counts.failed} failed${counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''}`,
  )
  return counts.failed === 0 && counts.passed > 0 ? 0 : 1
}

const CHECKS = [
  ['format and lint (biome)', 'biome', ['ci', '.']],
  ['types of the tests (tsc)', 'tsc', ['--noEmit', '-p', 'test']],
  ['dead code (knip)', 'knip', ['--no-progress']],
  ['duplicates (jscpd)', 'jscpd', ['--min-tokens', '80', '--exitCode', '1', '--reporters', 'console', ...SOURCES]],
]

function bin(tool) {
  return path.join(ROOT, 'node_modules', '.bin', tool)
}

async function need(tool, args) {
  const { code } = await run(bin(tool), args)
  if (code !== 0) throw new Refused(`${tool} failed; see above`)
}

/** Standard output goes to standard error unless asked otherwise: with `--json` ours holds one object and nothing else. */
function run(program, args, { env = process.env, quiet = false, stdout = process.stderr } = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: ROOT,
      env,
      stdio: quiet ? ['ignore', 'pipe', 'pipe'] : ['inherit', stdout, 'inherit'],
    })
    const forward = (signal) => child.kill(signal)
    process.on('SIGTERM', forward).on('SIGINT', forward)
    let output = ''
    child.stdout?.on('data', (bytes) => (output += bytes))
    child.stderr?.on('data', (bytes) => (output += bytes))
    const done = (code) => {
      process.off('SIGTERM', forward).off('SIGINT', forward)
      resolve({ code, output })
    }
    child.once('error', (err) => {
      output += err.message
      done(127)
    })
    child.once('close', (code, signal) => done(code ?? (signal === 'SIGINT' ? 130 : 143)))
  })
}

function say(sentence) {
  console.error(sentence)
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (err) {
  if (!(err instanceof Refused)) throw err
  say(err.message)
  process.exitCode = 2
}
