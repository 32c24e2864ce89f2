import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ReportPort, StatusReport } from '../../src/core/report/types.ts'

export type Fault = (response: ServerResponse) => void

/** A forge of statuses behind real HTTP, which can be out of order, and an adapter that is as strict as the port asks. */
export interface FakeForge {
  readonly port: ReportPort
  readonly url: string
  /** The newest state of a context, as GitHub shows it. */
  shown(context: string): string | undefined
  /** Requests that reached it, taken or not. */
  readonly requests: { readonly context: string; readonly at: number }[]
  fault: Fault | undefined
  close(): Promise<void>
}

export async function startFakeForge(clock: () => number): Promise<FakeForge> {
  const states = new Map<string, string>()
  const requests: FakeForge['requests'] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const { context, state } = JSON.parse(Buffer.concat(chunks).toString()) as StatusReport
    requests.push({ context, at: clock() })
    if (forge.fault) return forge.fault(response)
    states.set(context, state)
    response.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ context, state }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`

  const forge: FakeForge = {
    url,
    port: { setStatus: (status) => setStatus(url, status) },
    shown: (context) => states.get(context),
    requests,
    fault: undefined,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return forge
}

/** The errors are as octokit's: status, and headers and data of the answer. */
async function setStatus(url: string, status: StatusReport): Promise<void> {
  const response = await fetch(url, { method: 'POST', body: JSON.stringify(status) })
  const text = await response.text()
  const headers = Object.fromEntries(response.headers)
  if (!response.ok) {
    const data: unknown = headers['content-type'] === 'application/json' ? JSON.parse(text) : text
    throw Object.assign(new Error(text), { status: response.status, response: { headers, data } })
  }
  const answer = JSON.parse(text) as Partial<StatusReport>
  if (answer.state !== status.state) throw new Error('the answer is none to this status')
}

export function answering(status: number, headers: Record<string, string> = {}, body = ''): Fault {
  return (response) => response.writeHead(status, headers).end(body)
}

export const cutting: Fault = (response) => {
  response.writeHead(201, { 'content-length': '500' })
  response.write('{"con', () => response.destroy())
}
