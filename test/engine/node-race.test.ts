import { lstatSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type Docker from 'dockerode'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { createNodeEngine } from '../../src/engine/swarm/node.ts'
import { aKey } from '../helpers/docker.ts'

test('a container that starts between two looks has not been removed', async () => {
  const root = join(mkdtempSync(join(tmpdir(), 'pst-node-')), '_data')
  mkdirSync(root)
  const journal = join(root, 'journal')
  writeFileSync(journal, '\n'.repeat(100))
  writeFileSync(join(root, 'gate'), '')
  const { dev, ino } = lstatSync(journal)
  const manifest = { first: 0, count: 0, journal: { dev, ino }, logs: [] }
  writeFileSync(join(dirname(root), 'penstock-made.json'), JSON.stringify(manifest))
  const docker = {
    getVolume: () => ({ inspect: async () => ({ Mountpoint: root }) }),
    async listContainers() {
      writeFileSync(journal, 'wait .\n', { flag: 'r+' })
      return []
    },
  }
  const engine = createNodeEngine({
    docker: docker as unknown as Docker,
    instance: 'test',
    log: pino({ level: 'silent' }),
    helper: { busybox: '/bin/busybox' },
  })

  expect(await engine.ended(aKey(), 0)).toBeUndefined()
  expect(await engine.ended(aKey(), 0)).toMatchObject({ kind: 'lost' })
})
