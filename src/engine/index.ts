export { connectDocker } from './docker.ts'
export { createCluster } from './swarm/cluster.ts'
export { createErrands } from './swarm/errand.ts'
export { createNodeEngine } from './swarm/node.ts'
