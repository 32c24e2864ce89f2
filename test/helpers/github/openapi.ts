import { readDescription } from '../openapi.ts'

const file = new URL('api.github.com.json', import.meta.url)

export const { problemsOf, payloadProblems } = readDescription({ file, forge: 'GitHub', errors: 'basic-error' })
