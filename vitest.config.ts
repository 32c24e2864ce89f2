import { defineConfig } from 'vitest/config'

/** Tests that start processes, containers or whole machines: one file after the other, or they would starve each other. */
const SYSTEM = [
  ...['e2e', 'survival', 'swarm', 'embedded', 'ui'].map((folder) => `test/${folder}/**/*.test.ts`),
  'test/store/crash.test.ts',
]

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: SYSTEM,
          testTimeout: 60_000,
          hookTimeout: 180_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'system',
          include: SYSTEM,
          fileParallelism: false,
          // Engines, networks and labs of a shared machine: what fails twice has failed. Reports name what was tried again.
          retry: 1,
          testTimeout: 180_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
