import { inspect } from 'node:util'

const MASK = '***'

/** A value that shows itself only when asked by name: printing, logging or serializing it gives `***`. */
export class Secret {
  readonly #value: string

  constructor(value: string) {
    this.#value = value
  }

  reveal(): string {
    return this.#value
  }

  toJSON(): string {
    return MASK
  }

  toString(): string {
    return MASK
  }

  [inspect.custom](): string {
    return MASK
  }
}
