import { expect, test } from 'vitest'
import { onEveryDatabase } from './backend.ts'

await onEveryDatabase((lab) => {
  test('what jobs were given is kept once for each version, until its run is forgotten', async () => {
    const { masks } = lab().store
    const one = { job: 'acme/web#1/test/unit/1', run: 'acme/web#1', version: 'a', sealed: 'first' }

    await masks.keep(one)
    await masks.keep({ ...one, sealed: 'the same, sealed again' })
    await masks.keep({ ...one, version: 'b', sealed: 'second' })
    await masks.keep({ ...one, job: 'acme/web#2/test/unit/1', run: 'acme/web#2' })

    expect(await masks.of(one.job)).toEqual(['first', 'second'])
    expect(await masks.runs()).toEqual(['acme/web#1', 'acme/web#2'])
    await masks.forget('acme/web#1')
    await masks.forget('acme/web#1')
    expect(await masks.of(one.job)).toEqual([])
    expect(await masks.runs()).toEqual(['acme/web#2'])
  })
})
