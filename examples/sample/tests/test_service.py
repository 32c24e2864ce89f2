import json
import os
import threading
import unittest
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer

from greeter.__main__ import Handler


class QuietHandler(Handler):
    def log_message(self, format, *args):
        pass


class Service(unittest.TestCase):
    def setUp(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def get(self, path, headers=None):
        connection = HTTPConnection("127.0.0.1", self.server.server_port, timeout=5)
        self.addCleanup(connection.close)
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def test_it_is_healthy(self):
        self.assertEqual(self.get("/health"), (200, {"status": "ok"}))

    def test_the_version_is_the_commit_it_was_built_from(self):
        os.environ["PENSTOCK_COMMIT"] = "c0ffee"
        self.addCleanup(os.environ.pop, "PENSTOCK_COMMIT")

        status, body = self.get("/version")

        self.assertEqual((status, body["commit"]), (200, "c0ffee"))

    def test_the_browser_s_language_is_used(self):
        self.assertEqual(
            self.get("/greet?name=Ada", {"Accept-Language": "fr"}), (200, {"greeting": "Bonjour, Ada !"})
        )

    def test_a_missing_name_is_the_caller_s_mistake(self):
        self.assertEqual(self.get("/greet"), (400, {"error": "a name is needed"}))

    def test_an_unknown_path_is_not_found(self):
        self.assertEqual(self.get("/nothing")[0], 404)
