import { Client, Connection } from '@temporalio/client'

/** Connects when first used, so that a server starts and takes deliveries while Temporal is away. */
export function connectTemporal({ address, namespace }: { readonly address: string; readonly namespace: string }): {
  readonly client: Client
  close(): Promise<void>
} {
  const connection = Connection.lazy({ address })
  return { client: new Client({ connection, namespace }), close: () => connection.close() }
}
