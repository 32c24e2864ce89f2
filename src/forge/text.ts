import { z } from 'zod'
import type { Comment } from './types.ts'

/** At most so many characters, the last of them `…` where there were more. */
export function cutTo(most: number, text: string): string {
  const characters = [...text]
  return characters.length > most ? `${characters.slice(0, most - 1).join('')}…` : text
}

const CUT = '\n\n… (cut here: the forge takes no more)'

/** The text of a comment with a marker that nobody sees, at most so long. */
export function withMarker(
  marker: string,
  text: string,
  most: number,
): { readonly body: string; readonly hidden: string } {
  const hidden = `<!-- penstock:${marker} -->`
  return { hidden, body: `${cutBody(text, most - hidden.length - 2)}\n\n${hidden}` }
}

export function cutBody(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - CUT.length)}${CUT}` : text
}

/** What a comment has at every forge. */
export const Written = z.object({
  id: z.int().positive(),
  body: z.string().nullish(),
  created_at: z.string().nullish(),
  updated_at: z.string().nullish(),
})

export function toText({
  body,
  created_at,
  updated_at,
}: z.infer<typeof Written>): Pick<Comment, 'body' | 'edited' | 'at' | 'changedAt'> {
  return {
    body: body ?? '',
    edited: created_at !== updated_at,
    ...time('at', created_at),
    ...time('changedAt', updated_at),
  }
}

function time(name: 'at' | 'changedAt', said: string | null | undefined): { at?: number; changedAt?: number } {
  const at = Date.parse(said ?? '')
  return Number.isNaN(at) ? {} : { [name]: at }
}
