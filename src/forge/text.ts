/** At most so many characters, the last of them `…` where there were more. */
export function cutTo(most: number, text: string): string {
  const characters = [...text]
  return characters.length > most ? `${characters.slice(0, most - 1).join('')}…` : text
}

const CUT = '\n\n… (cut here: the forge takes no more)'

/** A field that is there only where the forge says a time that can be read; milliseconds since 1970. */
export function time<Name extends string>(name: Name, said: string | null | undefined): { [key in Name]?: number } {
  const at = Date.parse(said ?? '')
  return (Number.isNaN(at) ? {} : { [name]: at }) as { [key in Name]?: number }
}

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
