"""The hub's webhooks are verified by a third-party library for Standard Webhooks."""

import http.server
import json
import queue
import threading
import unittest

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from hub import SOON_S, Hub

OLD = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
NEW = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
OTHER = "whsec_YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE="


class StandardWebhooks(unittest.TestCase):
    def setUp(self):
        self.requests = requests = queue.Queue()

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                requests.put((dict(self.headers.items()), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        self.addCleanup(receiver.server_close)
        self.addCleanup(receiver.shutdown)
        settings = {
            "webhook.url": f"http://127.0.0.1:{receiver.server_port}/hook",
            "webhook.secrets": json.dumps([OLD, NEW]),
        }
        self.hub = Hub(settings)
        self.addCleanup(self.hub.stop)

    def test_every_secret_signs_and_no_other_verifies(self):
        client = self.enterContext(self.hub.connect())
        self.assertIn("ok", client.login("ann", "mac"))
        headers, body = self.requests.get(timeout=SOON_S)
        headers = {name.lower(): value for name, value in headers.items()}
        self.assertEqual(len(headers["webhook-signature"].split(" ")), 2)
        for secret in (OLD, NEW):
            events = Webhook(secret).verify(body, headers)["events"]
            self.assertEqual([event["user"] for event in events], ["ann"])
        with self.assertRaises(WebhookVerificationError):
            Webhook(OTHER).verify(body, headers)
        with self.assertRaises(WebhookVerificationError):
            Webhook(OLD).verify(body.replace("ann", "bob"), headers)


if __name__ == "__main__":
    unittest.main()
