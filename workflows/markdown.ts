/** What people wrote, in what the Temporal UI shows: no picture begins in it, and no link that leads elsewhere than it says. */
export function quoted(text: string): string {
  if (text.includes('\n')) return ['```', text.replaceAll('```', "'''"), '```'].join('\n')
  return text.replace(/[\\`*_[\]<>!|#~&]/g, '\\$&')
}
