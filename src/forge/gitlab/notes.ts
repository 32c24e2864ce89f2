import { z } from 'zod'
import { found, read } from '../answers.ts'
import { cutBody, toText, Written, withMarker } from '../text.ts'
import type { Comments } from '../types.ts'
import { type Connection, User } from './connect.ts'
import { commentId } from './payload.ts'

const Note = Written.extend({
  author: User.nullish(),
  system: z.boolean().nullish(),
})

const MAX_BODY = 1_000_000
const ID = /^(\d{1,15})-(\d{1,18})$/

export function createNotes({ rest, at, login }: Connection): Comments {
  const notesOf = (number: number) => `${at}/merge_requests/${number}/notes`

  async function ours(number: number, hidden: string) {
    const me = (await login()).toLowerCase()
    for await (const page of rest.pages(notesOf(number), { order_by: 'created_at', sort: 'asc' })) {
      // Anyone may copy the marker into a comment; what is not by our own account is not ours to change.
      const known = read(z.array(Note), page).find(
        (one) => one.author?.username.toLowerCase() === me && one.body?.endsWith(hidden),
      )
      if (known !== undefined) return known
    }
    return undefined
  }

  async function add(number: number, body: string) {
    const { id } = read(Note, await rest.send('POST', notesOf(number), { body }))
    return { id: commentId(number, id) }
  }

  return {
    async upsert(number, marker, text) {
      const { body, hidden } = withMarker(marker, text, MAX_BODY)
      const known = await ours(number, hidden)
      if (known === undefined) return add(number, body)
      if (known.body !== body) read(Note, await rest.send('PUT', `${notesOf(number)}/${known.id}`, { body }))
      return { id: commentId(number, known.id) }
    },
    add: (number, text) => add(number, cutBody(text, MAX_BODY)),
    async get(id) {
      const [, number, note] = ID.exec(id) ?? []
      if (number === undefined) return undefined
      const answer = await found(rest.get(`${notesOf(Number(number))}/${note}`))
      if (answer === undefined) return undefined
      const { author, ...comment } = read(Note, answer)
      return {
        id,
        ...(author ? { by: author.username } : {}),
        pullRequest: Number(number),
        ...toText(comment),
      }
    },
  }
}
