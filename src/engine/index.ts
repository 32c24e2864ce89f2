export { connectDocker } from './docker.ts'
export { createCluster } from './swarm/cluster.ts'
export { createNodeEngine } from './swarm/node.ts'
