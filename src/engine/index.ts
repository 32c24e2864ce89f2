export { connectDocker } from './docker.ts'
export { createFakeEngine, type FakeEngine, type FakeEngineDeps, type FakeStep } from './fake/fake-engine.ts'
export { type ClusterDeps, createCluster } from './swarm/cluster.ts'
export { createNodeEngine, type NodeDeps } from './swarm/node.ts'
