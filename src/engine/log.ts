/** What the engine needs of a pino logger. */
export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}
