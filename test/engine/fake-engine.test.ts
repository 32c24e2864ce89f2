import { createFakeEngine, type FakeStep } from '../../src/engine/fake/fake-engine.ts'
import { engineContract, STEPS } from './contract.ts'

const BEHAVIOUR: Readonly<Record<string, FakeStep>> = {
  [STEPS.hello]: { output: 'hello\n' },
  [STEPS.fails]: { exitCode: 3 },
  [STEPS.hangs]: { takesMs: Number.POSITIVE_INFINITY },
  [STEPS.numbers]: { output: Array.from({ length: 1000 }, (_, index) => `${index + 1}\n`).join('') },
  [STEPS.writes]: { files: { 'out/deep/report.xml': '<a/>\n', 'out/other.txt': 'b\n' } },
  [STEPS.reads]: { output: 'b\n' },
}

engineContract('fake', async () => {
  const fake = createFakeEngine({
    behave: (step) => {
      const command = step.run.join('\n')
      const behaviour = BEHAVIOUR[command]
      if (behaviour === undefined) throw new Error(`the contract has no command ${command}`)
      return { ...behaviour, output: `$ ${command}\n${behaviour.output ?? ''}` }
    },
  })
  await fake.cluster.setWorkerAlive('node1', true)
  return { ...fake, another: fake.anotherNodeEngine, image: 'plain' }
})
