import { expect, test } from 'vitest'
import { routeTable } from '../../src/api/app.ts'
import { apiReference } from '../../src/api/reference.ts'
import { startServer } from './server.ts'

test('docs/api.md is what the table of routes says (`npx vitest run test/api/reference.test.ts -u` writes it)', async () => {
  const server = await startServer()
  const text = apiReference(routeTable(server.deps))
  await server.stop()

  await expect(text).toMatchFileSnapshot('../../docs/api.md')
})
