/**
 * Aho–Corasick over bytes as one table: bytes that no needle has share a column, states with something to report come
 * last. Of long needles only the beginning is in the table, and the rest is compared where a beginning was found: so the
 * table stays small with secrets of any length.
 */
export interface Automaton {
  readonly needles: readonly Buffer[]
  /** Column of each byte. */
  readonly columns: Uint8Array | Uint16Array
  readonly width: number
  /** `table[state + column]` is the next state; a state is the offset of its row. The start is 0. */
  readonly table: Int32Array
  /** States from here on end with the beginning of at least one needle. */
  readonly reportsFrom: number
  /** By row: the needles whose beginning ends here, longest first. */
  readonly reports: readonly (readonly number[])[]
  /** By row: how many of the last bytes may still grow into the beginning of a needle. */
  readonly open: Int32Array
  /** How many bytes of a needle are in the table, by needle. */
  readonly prefix: Int32Array
}

const LONG_PREFIX = 24
const SHORT_PREFIX = 8
const LARGE_TABLE = 16 * 1024 * 1024

export function buildAutomaton(needles: readonly Buffer[]): Automaton {
  const bytes = needles.reduce((sum, needle) => sum + Math.min(needle.length, LONG_PREFIX), 0)
  const limit = bytes * 256 > LARGE_TABLE ? SHORT_PREFIX : LONG_PREFIX
  const prefix = Int32Array.from(needles, (needle) => Math.min(needle.length, limit))

  const columns = new Uint16Array(256)
  let width = 1
  for (const needle of needles) {
    for (const byte of needle.subarray(0, limit)) if (columns[byte] === 0) columns[byte] = width++
  }

  // The trie, then (breadth first) fail links folded into it, so that each state has a next one for every byte.
  const rows = 1 + prefix.reduce((sum, length) => sum + length, 0)
  const trie = new Int32Array(rows * width)
  const own: number[][] = [[]]
  let count = 1
  for (const [id, needle] of needles.entries()) {
    let node = 0
    for (const byte of needle.subarray(0, limit)) {
      const slot = node * width + at(columns, byte)
      if (trie[slot] === 0) {
        trie[slot] = count
        own[count++] = []
      }
      node = at(trie, slot)
    }
    own[node]?.push(id)
  }
  const fail = new Int32Array(count)
  const depth = new Int32Array(count)
  const open = new Int32Array(count)
  const reports: (readonly number[])[] = [[]]
  const queue = new Int32Array(count)
  let queued = 1
  for (let head = 0; head < queued; head++) {
    const node = at(queue, head)
    const back = at(fail, node)
    let grows = false
    for (let column = 1; column < width; column++) {
      const slot = node * width + column
      const child = at(trie, slot)
      const around = node === 0 ? 0 : at(trie, back * width + column)
      if (child === 0) {
        trie[slot] = around
        continue
      }
      grows = true
      fail[child] = around
      depth[child] = at(depth, node) + 1
      queue[queued++] = child
    }
    open[node] = grows ? at(depth, node) : at(open, back)
    const inherited = node === 0 ? [] : (reports[back] ?? [])
    const mine = own[node] ?? []
    reports[node] = mine.length === 0 ? inherited : [...mine, ...inherited]
  }

  const order = Array.from({ length: count }, (_, node) => node)
  order.sort((a, b) => Number(reports[a]?.length !== 0) - Number(reports[b]?.length !== 0) || a - b)
  const place = new Int32Array(count)
  for (const [row, node] of order.entries()) place[node] = row
  const table = new Int32Array(count * width)
  for (const [row, node] of order.entries()) {
    for (let column = 0; column < width; column++) {
      table[row * width + column] = at(place, at(trie, node * width + column)) * width
    }
  }
  const silent = order.findIndex((node) => reports[node]?.length !== 0)
  return {
    needles,
    columns,
    width,
    table,
    reportsFrom: silent < 0 ? table.length : silent * width,
    reports: order.map((node) => reports[node] ?? []),
    open: Int32Array.from(order, (node) => at(open, node)),
    prefix,
  }
}

/** For an index that is known to be inside. */
function at(array: Int32Array | Uint16Array, index: number): number {
  return array[index] as number
}
