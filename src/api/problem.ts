import type { Response } from 'express'

/** An error answer as RFC 9457 has it. */
export interface Problem {
  readonly status: number
  readonly title: string
  readonly detail?: string
  /** All that is wrong with the request, not the first thing. */
  readonly errors?: readonly { readonly pointer: string; readonly detail: string }[]
  readonly [extension: string]: unknown
}

/** Ends the request with this problem; thrown by handlers. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError'
  readonly problem: Problem
  readonly headers: Readonly<Record<string, string>>
  constructor(problem: Problem, headers: Readonly<Record<string, string>> = {}) {
    super(problem.detail ?? problem.title)
    this.problem = problem
    this.headers = headers
  }
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Not authenticated',
  403: 'Not allowed',
  404: 'Not found',
  405: 'Method not allowed',
  408: 'Request took too long',
  409: 'Conflict',
  413: 'Too large',
  415: 'Unsupported media type',
  416: 'Range not satisfiable',
  422: 'Not valid',
  429: 'Too many requests',
  500: 'Internal error',
  503: 'Not available',
}

export function problem(status: number, detail?: string, more: Readonly<Record<string, unknown>> = {}): Problem {
  return { status, title: TITLES[status] ?? 'Error', ...(detail === undefined ? {} : { detail }), ...more }
}

export function sendProblem(response: Response, value: Problem, headers: Readonly<Record<string, string>> = {}): void {
  if (response.headersSent) {
    // A stream that breaks must not look like one that ended.
    response.destroy()
    return
  }
  response.status(value.status).set(headers).type('application/problem+json').send(JSON.stringify(value))
}
