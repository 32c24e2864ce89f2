import { createHash } from 'node:crypto'
import type { Diagnostic } from './diagnostic.ts'
import { createSource } from './diagnostic.ts'
import { issueDiagnostics } from './issues.ts'
import { toSpec } from './long-form.ts'
import { referenceDiagnostics } from './references.ts'
import { SpecInput } from './schema.ts'
import type { Spec } from './spec.ts'
import { decodeText } from './text.ts'
import { capped, parseTree } from './tree.ts'

export const SPEC_FILE = '.penstock.yml'

export type ParsedSpec =
  | { readonly kind: 'ok'; readonly spec: Spec; readonly warnings: readonly Diagnostic[] }
  | { readonly kind: 'wrong'; readonly diagnostics: readonly Diagnostic[] }

/**
 * The text of a spec file as a spec, or everything that is wrong with it, in the order of the file. Never throws,
 * whatever the bytes; its time and memory are bounded by the limits on size, depth and nodes.
 */
export function parseSpec(bytes: Uint8Array | string, file: string = SPEC_FILE): ParsedSpec {
  const decoded = decodeText(typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes, file)
  if (decoded.kind === 'wrong') return decoded
  const parsed = parseTree(createSource(file, decoded.text))
  if (parsed.kind === 'wrong') return parsed
  const { tree } = parsed

  const checked = SpecInput.safeParse(tree.value)
  const diagnostics = capped([
    ...tree.diagnostics,
    ...issueDiagnostics(checked.error?.issues ?? [], tree),
    ...referenceDiagnostics(tree),
  ])
  if (!checked.success || diagnostics.some(({ severity }) => severity === 'error'))
    return { kind: 'wrong', diagnostics }
  return { kind: 'ok', spec: toSpec(checked.data, tree), warnings: diagnostics }
}

/** What identifies a spec in plans and approvals: sha256 (hex) of the bytes of the file. */
export function specDigest(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex')
}
