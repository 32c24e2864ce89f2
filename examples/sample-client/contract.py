"""What this client relies on, held against a greeter that runs somewhere: contract.py URL COMMIT"""

import json
import sys
import urllib.error
import urllib.request


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def main():
    base, commit = sys.argv[1].rstrip("/"), sys.argv[2]
    found = get(f"{base}/version")["commit"]
    if found != commit:
        sys.exit(f"{base} runs {found}, and not {commit}")
    greeting = get(f"{base}/greet?name=Ada")["greeting"]
    if not greeting.startswith("Hello, Ada"):
        sys.exit(f"English is no longer what is spoken unless asked otherwise: {greeting}")
    try:
        get(f"{base}/greet")
        sys.exit("a greeting without a name is no longer refused")
    except urllib.error.HTTPError as refused:
        if refused.code != 400:
            sys.exit(f"a greeting without a name is refused by {refused.code}, and no longer by 400")
    print("this client can talk to", commit)


if __name__ == "__main__":
    main()
