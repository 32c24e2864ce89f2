import type Docker from 'dockerode'
import type { Deliverable } from '../core/plan.ts'

/** A Swarm service that an environment's deliverable runs as; from the operator's file. */
export interface SwarmTarget {
  readonly service: string
  readonly env: Readonly<Record<string, string>>
  readonly command?: readonly string[]
  /** A network that is there already; `host` for the node's own. */
  readonly network?: string
  readonly publish: readonly { readonly host: number; readonly container: number }[]
}

export interface SwarmDeployer {
  /**
   * Looks, updates the service to the deliverable's reference, looks again. Repeatable: a service that runs it already is
   * left alone. `unknown` when looking cannot tell.
   */
  deploy(input: {
    readonly target: SwarmTarget
    readonly deliverable: Deliverable
    readonly repo: string
    readonly environment: string
    readonly commit: string
  }): Promise<{ readonly kind: 'done' | 'failed' | 'unknown'; readonly detail: string }>
}

/** How long the new task may take to run before the deployment counts as failed. */
const SETTLE_MS = 120_000
const POLL_MS = 200

interface Task {
  readonly DesiredState: string
  readonly Status: { readonly State: string; readonly Err?: string }
  readonly Spec: { readonly ContainerSpec?: { readonly Image?: string } }
  readonly Version: { readonly Index: number }
  readonly CreatedAt: string
}

export function createSwarmDeployer({
  docker,
  instance,
}: {
  readonly docker: Docker
  readonly instance: string
}): SwarmDeployer {
  async function find(name: string) {
    const found = await docker.listServices({ filters: { name: [name] } })
    return found.find((one) => one.Spec?.Name === name)
  }

  /** Tasks of the wanted image: running, or the newest failure. */
  async function look(service: string, image: string): Promise<{ running: boolean; failure?: string }> {
    const tasks = (await docker.listTasks({ filters: { service: [service] } })) as unknown as Task[]
    const ours = tasks.filter((one) => one.Spec.ContainerSpec?.Image === image)
    if (ours.some((one) => one.Status.State === 'running' && one.DesiredState === 'running')) return { running: true }
    const failed = ours.filter((one) => one.Status.State === 'failed' || one.Status.State === 'rejected')
    const newest = failed.sort((a, b) => b.CreatedAt.localeCompare(a.CreatedAt))[0]
    return {
      running: false,
      ...(failed.length >= 3 && newest ? { failure: newest.Status.Err ?? newest.Status.State } : {}),
    }
  }

  return {
    async deploy({ target, deliverable, repo, environment, commit }) {
      const image = deliverable.reference
      const spec = serviceSpec(target, image, {
        'penstock.instance': instance,
        'penstock.environment': `${repo}/${environment}`,
        'penstock.commit': commit,
      })
      const existing = await find(target.service)
      if (existing && existing.Spec?.Labels?.['penstock.environment'] !== `${repo}/${environment}`) {
        return { kind: 'failed', detail: `the Swarm service ${target.service} exists and is not this environment's` }
      }
      const label = existing?.Spec?.Labels?.['penstock.commit']
      if (!existing) await docker.createService(spec)
      else if (imageOf(existing.Spec) !== image || label !== commit) {
        await docker.getService(existing.ID).update({ ...spec, version: existing.Version?.Index })
      }
      const deadline = performance.now() + SETTLE_MS
      for (;;) {
        const seen = await look(target.service, image)
        if (seen.running) return { kind: 'done', detail: `${target.service} runs ${image}` }
        if (seen.failure) return { kind: 'failed', detail: `${target.service} does not start: ${seen.failure}` }
        if (performance.now() > deadline) {
          return { kind: 'unknown', detail: `${target.service} was told to run ${image} and did not settle in time` }
        }
        await new Promise((resolve) => setTimeout(resolve, POLL_MS))
      }
    },
  }
}

function imageOf(spec: Docker.ServiceSpec | undefined): string | undefined {
  const template = spec?.TaskTemplate as { ContainerSpec?: { Image?: string } } | undefined
  return template?.ContainerSpec?.Image
}

function serviceSpec(target: SwarmTarget, image: string, labels: Record<string, string>): Docker.CreateServiceOptions {
  return {
    Name: target.service,
    Labels: labels,
    TaskTemplate: {
      ContainerSpec: {
        Image: image,
        Labels: labels,
        Init: true,
        Env: Object.entries(target.env).map(([name, value]) => `${name}=${value}`),
        ...(target.command ? { Args: [...target.command] } : {}),
      },
      RestartPolicy: { Condition: 'any', Delay: 1_000_000_000 },
      Networks: target.network === undefined ? [] : [{ Target: target.network }],
    },
    Mode: { Replicated: { Replicas: 1 } },
    UpdateConfig: { Parallelism: 1, Order: 'stop-first' },
    EndpointSpec: {
      Mode: 'dnsrr',
      // Host mode: no IP_VS, no ingress network is needed.
      Ports: target.publish.map((one) => ({
        Protocol: 'tcp',
        PublishMode: 'host',
        PublishedPort: one.host,
        TargetPort: one.container,
      })),
    },
  } as Docker.CreateServiceOptions
}
