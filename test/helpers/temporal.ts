import { fileURLToPath } from 'node:url'
import { TestWorkflowEnvironment } from '@temporalio/testing'
import { bundleWorkflowCode, DefaultLogger, Runtime, type WorkflowBundleWithSourceMap } from '@temporalio/worker'
import { environment } from '../../src/config/environment.ts'
import { dataDirOf } from '../../src/embedded/files.ts'
import { ensureTemporal, NAMESPACE, prepareNamespace } from '../../src/embedded/temporal.ts'

/** A Temporal of its own for one test file, from the CLI that the embedded system uses. */
export async function startTemporal(): Promise<TestWorkflowEnvironment> {
  Runtime.install({ logger: new DefaultLogger('ERROR', () => {}) })
  const env = environment()
  const temporal = await ensureTemporal({ dataDir: dataDirOf(env), env, say: () => {} })
  const started =
    temporal.kind === 'address'
      ? await TestWorkflowEnvironment.createFromExistingServer({ address: temporal.address, namespace: NAMESPACE })
      : await TestWorkflowEnvironment.createLocal({
          server: {
            executable: { type: 'existing-path', path: temporal.executable },
            namespace: NAMESPACE,
            extraArgs: QUICK_TIMERS,
          },
        })
  await prepareNamespace(started.address, false)
  return started
}

/** At its defaults the dev server lets every timer wait for a second, and every hop for 50 ms. */
const QUICK_TIMERS = [
  '--dynamic-config-value',
  'history.timerProcessorMaxTimeShift="10ms"',
  '--dynamic-config-value',
  'history.transferProcessorMaxPollRPS=200',
]

const WORKFLOWS = fileURLToPath(new URL('../../workflows/index.ts', import.meta.url))

/** The workflows as they are in the sources now. */
export function bundleWorkflows(
  interceptors: readonly string[] = [],
  workflowsPath = WORKFLOWS,
): Promise<WorkflowBundleWithSourceMap> {
  return bundleWorkflowCode({
    workflowsPath,
    workflowInterceptorModules: [...interceptors],
    logger: new DefaultLogger('ERROR', () => {}),
  })
}
