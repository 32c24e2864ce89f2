import { createHash } from 'node:crypto'

const BLOCK = 64

/** HMAC's key, xored with its two pads (RFC 2104): with these in files, `openssl dgst` signs without seeing the secret. */
export function padded(secret: string): { readonly inner: Buffer; readonly outer: Buffer } {
  const bytes = Buffer.from(secret)
  const key = Buffer.alloc(BLOCK)
  ;(bytes.length > BLOCK ? createHash('sha256').update(bytes).digest() : bytes).copy(key)
  return { inner: key.map((byte) => byte ^ 0x36) as Buffer, outer: key.map((byte) => byte ^ 0x5c) as Buffer }
}

/** A post-receive hook for a host that has git, sh, openssl and curl, and nothing else. */
export function postReceive({ url, repository }: { readonly url: string; readonly repository: string }): string {
  return `#!/bin/sh
# Written by \`penstock hook install\`: tells Penstock of every pushed ref.
# Whatever happens here, the push stands: what went wrong is told to whoever pushed.
url=${quoted(`${url}/hooks/git`)}
repository=${quoted(JSON.stringify(repository))}
keys=$(dirname "$0")/penstock
umask 077

for tool in curl openssl; do
  if ! command -v "$tool" >/dev/null 2>&1; then
    echo "penstock: no run is started: this host has no $tool" >&2
    cat >/dev/null
    exit 0
  fi
done
work=$(mktemp -d) || { cat >/dev/null; exit 0; }
trap 'rm -rf "$work"' EXIT

escaped() { LC_ALL=C sed 's/\\\\/\\\\\\\\/g; s/"/\\\\"/g'; }
# Names and titles may hold anything: what is no UTF-8, and control characters, are left out.
text() {
  if command -v iconv >/dev/null 2>&1; then iconv -c -f UTF-8 -t UTF-8 2>/dev/null; else LC_ALL=C tr -cd '\\040-\\176'; fi |
    LC_ALL=C tr -d '\\000-\\037\\177' | escaped
}

pusher=$(printf '%s' "\${PENSTOCK_PUSHER:-\${GL_USERNAME:-\${REMOTE_USER:-$(id -un)}}}" | text)
count=0
while read -r before after ref; do
  count=$((count + 1))
  title=$(git log -1 --format=%s "$after" -- 2>/dev/null | head -c 1000 | text)
  author=$(git log -1 --format='%an <%ae>' "$after" -- 2>/dev/null | head -c 1000 | text)
  printf '{"repository":%s,"ref":"%s","before":"%s","after":"%s","pusher":"%s","author":"%s","title":"%s"}' \\
    "$repository" "$(printf '%s' "$ref" | escaped)" "$before" "$after" "$pusher" "$author" "$title" >"$work/body"
  cat "$keys/inner" "$work/body" | openssl dgst -sha256 -binary >"$work/digest"
  signature=$(cat "$keys/outer" "$work/digest" | openssl dgst -sha256 -hex | sed 's/^.*= *//')
  status=$(curl --silent --show-error --connect-timeout 5 --max-time 20 --retry 2 \\
    --header 'Content-Type: application/json' \\
    --header "X-Penstock-Signature-256: sha256=$signature" \\
    --header "X-Penstock-Delivery: $(date +%s)-$$-$count" \\
    --data-binary "@$work/body" --output "$work/answer" --write-out '%{http_code}' "$url" 2>"$work/error")
  case $status in
    2*)
      run=$(sed -n 's/.*"id":"\\([^"]*\\)".*/\\1/p' "$work/answer")
      [ -z "$run" ] || echo "penstock: run $run" >&2
      ;;
    000) echo "penstock: no run is started: $(head -c 500 "$work/error")" >&2 ;;
    *) echo "penstock: no run is started ($status): $(head -c 500 "$work/answer")" >&2 ;;
  esac
done
exit 0
`
}

/** For the shell, whatever it holds. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
