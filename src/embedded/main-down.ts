import path from 'node:path'
import { environment } from '../config/environment.ts'
import { takeDown } from './down.ts'
import { dataDirOf } from './files.ts'

const env = environment()
try {
  await takeDown({ dataDir: path.resolve(dataDirOf(env)), env, say: (sentence) => console.log(sentence) })
  console.log('nothing of Penstock is left running; the packages it installed (npm run demo said which) stay')
} catch (err) {
  console.error(err instanceof Error ? err.message : err)
  process.exitCode = 2
}
