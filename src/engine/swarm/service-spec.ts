import { controlVolume, type JobKey, jobLabels, LABELS, segmentService, workspaceVolume } from '../../core/ids.ts'
import type { StartSegment } from '../types.ts'

/** Which segment of the job a service or volume belongs to, beside the labels of `core/ids.ts`. */
const SEGMENT_LABEL = 'penstock.segment'

/** Nodes whose worker of this installation is alive carry this label with the value `alive`. */
export function workerLabel(instance: string): string {
  return `penstock.worker.${instance}`
}
export const WORKER_ALIVE = 'alive'

/**
 * What a job's processes may do as root inside their container, out of the 41 that there are. With these a database
 * image chowns its data and drops to its own user, apt-get drops to `_apt` and dpkg sets owners and set-id bits, and
 * pip and tar unpack with owners. Left out of Docker's own default set: NET_RAW, MKNOD, AUDIT_WRITE, SETFCAP, SETPCAP,
 * SYS_CHROOT, NET_BIND_SERVICE (ports below 1024 are open to all in a container's own network).
 */
export const CAPABILITIES = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID'].map(
  (one) => `CAP_${one}`,
)

/** How long a service's container may take to end after SIGTERM when its service is removed. */
const STOP_GRACE_SECONDS = 10

/** Of API 1.44, which dockerode's types do not know yet. */
const NO_NEW_PRIVILEGES: object = { NoNewPrivileges: true }

export interface SegmentServiceInput extends StartSegment {
  readonly instance: string
  readonly helperVolume: string
  readonly network: string
  /** Swarm's ids of the job's secrets, by secret name. */
  readonly secretIds: ReadonlyMap<string, { readonly id: string; readonly name: string }>
  /** The engine can set "no new privileges" on a service (API 1.44 and later); else the wrapper does. */
  readonly nativeNoNewPrivileges: boolean
}

export function segmentLabels(instance: string, key: JobKey, segment: number): Record<string, string> {
  return { ...jobLabels(instance, key), [SEGMENT_LABEL]: String(segment) }
}

/** Built field by field: nothing of a spec reaches Docker but what is named here. No value of a variable is in it. */
export function segmentServiceSpec(input: SegmentServiceInput) {
  const { instance, key, job, segment } = input
  const labels = segmentLabels(instance, key, segment)
  const volume = (source: string, target: string, own: Record<string, string>) => ({
    Type: 'volume' as const,
    Source: source,
    Target: target,
    VolumeOptions: { NoCopy: true, Labels: own, DriverConfig: { Name: 'local', Options: {} } },
  })
  return {
    Name: segmentService(instance, key, segment),
    Labels: labels,
    Mode: { Replicated: { Replicas: 1 } },
    EndpointSpec: { Mode: 'dnsrr' as const },
    TaskTemplate: {
      ContainerSpec: {
        Image: input.image,
        Labels: labels,
        Command: ['/.penstock/bin/busybox', 'sh', '/.penstock/bin/wrapper.sh', '/.penstock/control'],
        Args: [input.nativeNoNewPrivileges ? 'native' : 'nnp'],
        Dir: '/',
        Env: job.secrets.map(({ name }) => `${name}_FILE=/run/secrets/${name}`),
        Init: true,
        StopGracePeriod: STOP_GRACE_SECONDS * 1e9,
        CapabilityDrop: ['ALL'],
        CapabilityAdd: [...CAPABILITIES],
        ...(input.nativeNoNewPrivileges ? { Privileges: NO_NEW_PRIVILEGES } : {}),
        Mounts: [
          {
            Type: 'volume' as const,
            Source: input.helperVolume,
            Target: '/.penstock/bin',
            ReadOnly: true,
            VolumeOptions: {
              NoCopy: true,
              Labels: { [LABELS.instance]: instance },
              DriverConfig: { Name: 'local', Options: {} },
            },
          },
          volume(controlVolume(instance, key, segment), '/.penstock/control', labels),
          volume(workspaceVolume(instance, key), '/workspace', jobLabels(instance, key)),
        ],
        Secrets: job.secrets.flatMap(({ name }) => {
          const secret = input.secretIds.get(name)
          if (secret === undefined) return []
          return [
            { SecretID: secret.id, SecretName: secret.name, File: { Name: name, UID: '0', GID: '0', Mode: 0o444 } },
          ]
        }),
      },
      Networks: [{ Target: input.network }],
      Resources: {
        Limits: {
          NanoCPUs: Math.round(job.resources.cpus.limit * 1e9),
          MemoryBytes: job.resources.memory.limit,
          Pids: job.resources.pids,
        },
        Reservations: {
          NanoCPUs: Math.round(job.resources.cpus.reserve * 1e9),
          MemoryBytes: job.resources.memory.reserve,
        },
      },
      // A step must run once an attempt; Swarm's default starts it again.
      RestartPolicy: { Condition: 'none' as const, MaxAttempts: 0 },
      Placement: {
        Constraints: [
          ...job.constraints,
          `node.labels.${workerLabel(instance)}==${WORKER_ALIVE}`,
          ...(input.node === undefined ? [] : [`node.id==${input.node}`]),
        ],
      },
      // The driver's log holds only what the wrapper itself says; the steps' output goes to the control volume.
      LogDriver: { Name: 'json-file', Options: { 'max-size': '1m', 'max-file': '1' } },
    },
  }
}
