import { z } from 'zod'
import { ROLE_PERMISSIONS } from '../config/roles.ts'
import type { Route } from './route.ts'

/** The reference of the interface, from its own table: what is not written there is not served. */
export function apiReference(table: readonly Route[]): string {
  const roles = Object.entries(ROLE_PERMISSIONS).map(([role, permissions]) => `| ${role} | ${permissions.join(', ')} |`)
  return `# HTTP interface

<!-- Generated from the table of routes by test/api/reference.test.ts. Change the table, not this file. -->

Every request but \`GET /api/v1/health\` carries \`Authorization: Bearer pst_…\`, a person's token. What a person may do
follows from the roles in the operator's file:

| role | permissions |
| --- | --- |
${roles.join('\n')}

Bodies are JSON. Errors are \`application/problem+json\` (RFC 9457); \`errors\` lists all that is wrong. What is not there
and what one may not see get the same 404. Ten wrong tokens a minute from one address, then 429. Unknown query
parameters and unknown keys are errors.

## Deliveries

\`POST /hooks/github\`, \`/hooks/gitea\`, \`/hooks/gitlab\` and \`/hooks/git\` (also with the repository's name behind) take
deliveries, signed with HMAC-SHA256 over the raw bytes: \`X-Hub-Signature-256\`; \`X-Gitea-Signature\` (or \`X-Forgejo-\`);
\`webhook-signature\`, or \`X-Gitlab-Token\` where GitLab does not sign; \`X-Penstock-Signature-256\` with
\`X-Penstock-Delivery\` for plain repositories. Answers: 202 with the run, 200 with the run it became before (\`duplicate\`) or with why it starts
nothing (\`ignored\`); 401 signature, 403 repository, 408 too slow, 409 the id was used for another body, 413 over 25 MiB,
415 not JSON, 400 and 422 what is wrong with it, 503 try again.

## For people and their programs

${table
  .filter((route) => route.permission !== 'worker')
  .map(section)
  .join('\n')}
## For node workers

Authenticated by the worker token (\`PENSTOCK_WORKER_TOKEN\`), which opens nothing else.

${table
  .filter((route) => route.permission === 'worker')
  .map(section)
  .join('\n')}`
}

function section({ method, path, permission, summary, query, body }: Route): string {
  const parameters = Object.entries(query ?? {}).map(([name, meaning]) => `- \`?${name}\`: ${meaning}`)
  const lines = [`### \`${method} ${path}\``, '', `${summary} Permission: ${permission}.`, '']
  if (parameters.length > 0) lines.push(...parameters, '')
  if (body?.kind === 'bytes') lines.push(`Body: \`application/octet-stream\`, at most ${body.max} bytes.`, '')
  if (body?.kind === 'json') lines.push('```json', JSON.stringify(shape(body.schema), null, 2), '```', '')
  return lines.join('\n')
}

function shape(schema: z.ZodType): unknown {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { target: 'draft-7', io: 'input', unrepresentable: 'any' })
  return rest
}
