export { connectDocker } from './docker.ts'
export { type ClusterDeps, createCluster } from './swarm/cluster.ts'
export { createNodeEngine, type NodeDeps } from './swarm/node.ts'
