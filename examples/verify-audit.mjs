#!/usr/bin/env node
// Who approved what, from an export of the audit alone: penstock audit export > audit.jsonl; node verify-audit.mjs audit.jsonl
// Needs Node.js and nothing of Penstock. Prints one JSON object a gate; exit code 1: something in it does not hold.
import { readFileSync } from 'node:fs'

const lines = readFileSync(process.argv[2] ?? 0, 'utf8')
  .split('\n')
  .filter((line) => line !== '')
const wrong = []
const entries = []
let end
for (const line of lines) {
  const entry = JSON.parse(line)
  if (entry.end === undefined) entries.push(entry)
  else end = entry.end
}
if (end === undefined) wrong.push('the export was cut off: its last line is missing')
else if (end.entries !== entries.length) wrong.push(`${end.entries} entries were exported, ${entries.length} are here`)
entries.forEach((entry, index) => {
  if (index > 0 && entry.id <= entries[index - 1].id) wrong.push(`entry ${entry.id} is out of order`)
})

const gates = new Map()
for (const { action, on, at, by, channel, detail } of entries) {
  const gate = gates.get(on)
  switch (action) {
    case 'gate.opened':
      gates.set(on, { gate: on, ...detail, state: 'open', openedAt: at, votes: [] })
      break
    case 'gate.vote':
      if (detail.counts && gate) gate.votes.push({ by, channel, at, ...detail })
      else if (detail.counts) wrong.push(`${on}: a vote counted at a gate that was never opened`)
      break
    case 'gate.approved':
    case 'gate.rejected':
    case 'gate.expired':
    case 'gate.voided':
      if (!gate) wrong.push(`${on}: ${action} without an opening`)
      else {
        if (action === 'gate.approved')
          wrong.push(...whyNotApproved(gate, at, detail.rules).map((why) => `${on}: ${why}`))
        if (action === 'gate.expired' && at < gate.rules.expiresAt) wrong.push(`${on}: expired before its time`)
        gate.state = action.slice('gate.'.length)
        gate.decidedAt = at
      }
      break
    case 'gate.reviewed':
      if (gate) gate.reviewedBy = by
  }
}

for (const { gate, subject, state, openedAt, decidedAt, votes, reviewedBy } of gates.values()) {
  const { commit, specDigest, deliverables, environment } = subject
  const shown = votes.map(({ by, answer, at, channel, proof, comment, fields, breakGlass }) => ({
    ...{ by, answer, at: new Date(at).toISOString(), channel, proof },
    ...{ comment: comment ?? undefined, fields, breakGlass },
  }))
  const times = { openedAt: iso(openedAt), decidedAt: iso(decidedAt) }
  const line = { gate, environment, commit, specDigest, deliverables, state, ...times, votes: shown, reviewedBy }
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
for (const one of wrong) process.stderr.write(`${one}\n`)
process.exitCode = wrong.length > 0 ? 1 : 0

/** By the rules as they were when it was decided; every vote must be about what the gate was opened for. */
function whyNotApproved({ rules: opened, subject, votes }, at, rules = opened) {
  const why = []
  // What had its approvals in time and waited for its window did not expire; who may approve may have changed since.
  const wasEnoughBefore = ({ at }) => rules.window !== undefined && [rules, opened].some((one) => isEnough(one, at))
  const isEnough = (by, at) => {
    const before = votes.filter((one) => one.answer === 'approve' && one.at < by.expiresAt && one.at <= at)
    const [filled, asked] = placesOf(by, new Set(before.map((one) => one.by)))
    return filled >= asked
  }
  for (const vote of votes) {
    if (canonical(vote.subject) !== canonical(subject)) why.push(`${vote.by} voted on something else`)
    if (vote.at > at) why.push(`${vote.by} voted after the decision`)
    if (rules.expiresAt !== undefined && vote.at >= rules.expiresAt && !wasEnoughBefore(vote))
      why.push(`${vote.by} voted too late`)
    if (vote.answer === 'reject') why.push(`${vote.by} rejected it`)
    if (!vote.breakGlass && rules.excluded.includes(vote.by)) why.push(`${vote.by} wrote or pushed it`)
  }
  if (votes.some(({ breakGlass }) => breakGlass)) return why
  const approvals = new Set(votes.filter(({ answer }) => answer === 'approve').map(({ by }) => by))
  const [filled, asked] = placesOf(rules, approvals)
  if (filled < asked) why.push(`${filled} of ${asked} approvals`)
  return why
}

function placesOf(rules, people) {
  const groups = rules.groups ?? [{ count: rules.quorum, members: rules.approvers }]
  return [placesFilled(groups, people), groups.reduce((sum, { count }) => sum + count, 0)]
}

/** How many places of all groups these people can fill, each person one. */
function placesFilled(groups, people) {
  const places = groups.flatMap(({ count, members }) => Array.from({ length: count }, () => ({ members })))
  const seat = (person, tried) =>
    places.some((place) => {
      if (tried.has(place) || !place.members.includes(person)) return false
      tried.add(place)
      if (place.by !== undefined && !seat(place.by, tried)) return false
      place.by = person
      return true
    })
  return [...people].filter((person) => seat(person, new Set())).length
}

function canonical({ run, gate, environment, commit, specDigest, deliverables }) {
  return JSON.stringify([run, gate, environment, commit, specDigest, [...deliverables].sort()])
}

function iso(ms) {
  return ms === undefined ? undefined : new Date(ms).toISOString()
}
