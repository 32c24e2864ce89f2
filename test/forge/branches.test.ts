import { expect, test } from 'vitest'
import { createBranches } from '../../src/forge/branches.ts'

test('a server that makes a branch elsewhere than it was asked to has it taken away again, and is told of', async () => {
  const there = new Map<string, string>()
  const branches = createBranches({
    name: 'Forge',
    tip: async (branch) => there.get(branch),
    async make(branch) {
      there.set(branch, 'b')
      return 'b'
    },
    drop: async (branch) => there.delete(branch),
  })

  await expect(branches.create('promote/1', 'a')).rejects.toThrow('Forge made promote/1 at another commit')
  expect(there).toEqual(new Map())
})
