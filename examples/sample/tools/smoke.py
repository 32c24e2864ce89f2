"""Checks a deployed service from outside: smoke.py URL COMMIT"""

import json
import sys
import time
import urllib.error
import urllib.request

PATIENCE_SECONDS = 60


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def wait_for_commit(base, commit):
    """A service that is being replaced may answer as its predecessor, or not at all, for a moment."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            version = get(f"{base}/version")
            if version["commit"] == commit:
                return version
            seen = f"it runs {version['commit']}"
        except (urllib.error.URLError, OSError) as problem:
            seen = str(problem)
        if time.monotonic() > until:
            sys.exit(f"{base} does not run {commit} after {PATIENCE_SECONDS} s: {seen}")
        time.sleep(0.2)


def main():
    base, commit = sys.argv[1].rstrip("/"), sys.argv[2]
    print("version", wait_for_commit(base, commit))
    print("health", get(f"{base}/health"))
    greeting = get(f"{base}/greet?name=Ada&lang=de")["greeting"]
    print("greeting", greeting)
    if greeting != "Guten Tag, Ada!":
        sys.exit(f"expected Guten Tag, Ada! but got {greeting}")


if __name__ == "__main__":
    main()
