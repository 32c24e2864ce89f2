import { expect, test } from 'vitest'
import { testersOf } from '../../src/config/people.ts'

const PEOPLE = {
  tess: { name: 'tess', roles: ['viewer'], email: [] },
  theo: { name: 'theo', roles: ['approver'], email: [] },
  ops: { name: 'ops', roles: ['operator'], email: [] },
} as const
const CONFIG = { people: PEOPLE, teams: { qa: ['tess', 'theo'], ops: ['tess'] } }

test.each([
  ['a person, also one who may vote nowhere', ['tess'], ['tess']],
  ['a role', ['role:approver'], ['theo']],
  ['a team', ['team:qa'], ['tess', 'theo']],
  ['a team by its bare name', ['qa'], ['tess', 'theo']],
  ['a person who is called like a team', ['ops'], ['ops']],
  ['nobody', ['eve', 'role:qa', 'team:nobody', 'constructor'], []],
])('a session names %s', (_, by, names) => {
  expect(testersOf(CONFIG, by)).toEqual(names)
})
