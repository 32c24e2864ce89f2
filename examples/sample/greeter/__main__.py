"""The HTTP service."""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from greeter.greetings import BadRequest, greet


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/health":
            self.answer(200, {"status": "ok"})
        elif url.path == "/version":
            self.answer(
                200,
                {
                    "commit": os.environ.get("PENSTOCK_COMMIT", "unknown"),
                    "message": os.environ.get("MESSAGE", "ready to greet"),
                },
            )
        elif url.path == "/greet":
            languages = query.get("lang", [self.headers.get("Accept-Language", "")])[0]
            try:
                self.answer(200, {"greeting": greet(query.get("name", [""])[0], languages)})
            except BadRequest as problem:
                self.answer(400, {"error": str(problem)})
        else:
            self.answer(404, {"error": "there is nothing here"})

    def answer(self, status, body):
        content = json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        print(self.address_string(), format % args, file=sys.stderr)


def main():
    server = ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", "8000"))), Handler)
    # `shutdown` waits for the serving loop, so it cannot be called from within it.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    server.server_close()


if __name__ == "__main__":
    main()
