import { createNodeEngine } from '../../src/engine/swarm/node.ts'
import { engineContract } from '../engine/contract.ts'
import { docker, endInstallation, silent, startInstallation } from '../helpers/docker.ts'
import { APPLETS, BUSYBOX, importImage } from '../helpers/images.ts'

engineContract('Swarm', async () => {
  const image = await importImage('pst-test-plain', { applets: APPLETS })
  const installation = await startInstallation()
  const { instance, cluster, node } = installation
  return {
    cluster,
    node,
    image,
    another: () => createNodeEngine({ docker, instance, log: silent, helper: { busybox: BUSYBOX } }),
    close: () => endInstallation(installation),
  }
})
