"""The hub says what docs/troubleshooting.md prints: each symptom is brought about, and each printed line is found."""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import websockets

from hub import BINARY, SECRET, SOON_S, Hub, base64url, token
from pages import DOCS, blocks
from test_back_ends import call

PAGE = "troubleshooting.md"
API_KEY, VIEWER_KEY = "the key of the back end", "the key of a viewer"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
}
# What a browser's console and the SDK print is tested with the SDK.
OF_THE_SDK = "cannot be reached: check this address"


class Symptoms(unittest.TestCase):
    def setUp(self):
        receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        self.addCleanup(receiver.server_close)
        self.addCleanup(receiver.shutdown)
        self.hub = Hub({
            "auth.api_keys": json.dumps([API_KEY]),
            "auth.viewer_keys": json.dumps([VIEWER_KEY]),
            "auth.leeway": "0s",
            "auth.default_watch": "[]",
            "liveness.web_ping": "200ms",
            "liveness.web_silence": "1s",
            "webhook.url": f"http://127.0.0.1:{receiver.server_port}/presence-webhook",
            "webhook.secrets": json.dumps([WEBHOOK_SECRET]),
        })
        self.addCleanup(self.hub.stop)
        self.said = []
        self.page = (DOCS / PAGE).read_text()

    def test_every_printed_line_is_what_the_hub_says(self):
        for symptom in (self.tokens, self.kicks, self.silence, self.http, self.commands):
            symptom()
        printed = [line for text in blocks(PAGE, "text") for line in text.splitlines() if OF_THE_SDK not in line]
        self.assertGreater(len(printed), 15)
        self.until_found([pattern(line) for line in printed])

    def until_found(self, wanted):
        deadline = time.monotonic() + SOON_S
        while time.monotonic() < deadline:
            lines = [*self.said, *self.hub.log()]
            missing = [one for one in wanted if not any(one.search(line) for line in lines)]
            if not missing:
                return
            time.sleep(0.1)
        self.fail("\n".join(["not said:", *(one.pattern for one in missing), "said:", *lines]))

    def tokens(self):
        now = int(time.time())
        refused = {
            "none of the hub's keys signed the token": signed({"sub": "alice", "exp": now + 60}, secret=SECRET + "\n"),
            "the token's `alg` must be HS256": signed({"sub": "alice", "exp": now + 60}, algorithm="HS512"),
            "the token is not a valid JWT": "<!doctype html>",
            "the token's `iat` is 60 s in the future": signed({"sub": "alice", "iat": now + 60, "exp": now + 360}),
            "the token's `iat` must be a time in seconds since 1970, not in milliseconds": signed({
                "sub": "alice", "iat": now * 1000, "exp": now + 60
            }),
            "the token's `sub` must be a text": signed({"sub": 42, "iat": now, "exp": now + 60}),
            "the token has no `exp`": signed({"sub": "alice", "iat": now}),
            "the token has expired": signed({"sub": "alice", "iat": now - 60, "exp": now - 30}),
        }
        for message, jwt in refused.items():
            with self.hub.connect() as client:
                answer = client.login_with(jwt, "web")
                self.said.append(json.dumps(answer, separators=(",", ":")))
                self.assertIn(re.sub(r"\d+ s", "", message), re.sub(r"\d+ s", "", answer["error"]["message"]))
                self.assertIn(message, self.page)
        with self.hub.connect() as client:
            client.login_with(token("alice", lives=1), "web")
            self.closes(client, 4001)

    def kicks(self):
        with self.hub.connect() as page, self.hub.connect() as phone:
            session = page.login("bob", "web")["ok"]["session"]
            phone.login("bob", "android")
            kicked = page.hear()
            kicked["by"]["device"], kicked["at"] = "phone", 1796096567714
            self.said.append(json.dumps(kicked, separators=(",", ":")))
            self.assertTrue(session)
        with self.hub.connect() as desktop:
            session = desktop.login("carol", "linux")["ok"]["session"]
        with self.hub.connect() as laptop, self.hub.connect() as desktop:
            laptop.login("carol", "mac")
            refused = desktop.login_with(token("carol"), "linux", resume=session)
            self.assertEqual(refused["error"]["code"], "superseded")

    def silence(self):
        with self.hub.connect() as watcher:
            watcher.login("dave", "web")
            watcher.send({"type": "subscribe", "id": 2, "users": ["bob"]})
            self.said.append(json.dumps(watcher.hear(), separators=(",", ":")))
        with self.never_answers():
            self.until_found([pattern("INFO … session ended … close=4002 …")])

    @contextlib.contextmanager
    def upgrade(self, headers):
        """A socket that asked for an upgrade with these headers, and the status of the answer."""
        host, port = self.hub.origin.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=SOON_S) as raw:
            head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "hub", **UPGRADE, **headers}.items())
            raw.sendall(f"GET /ws HTTP/1.1\r\n{head}\r\n".encode())
            yield raw, int(raw.recv(4096).split()[1])

    @contextlib.contextmanager
    def never_answers(self):
        """A client that logs in, and answers no ping."""
        with self.upgrade({}) as (raw, status):
            self.assertEqual(status, 101)
            login = {"type": "login", "id": 1, "platform": "web", "device": "d", "token": token("dave")}
            data = json.dumps(login).encode()
            # One text frame of up to 64 KiB, masked with zeros.
            raw.sendall(bytes([0x81, 0x80 | 126]) + len(data).to_bytes(2) + bytes(4) + data)
            yield

    def http(self):
        for key in ("an unknown key of a back end", VIEWER_KEY):
            url = self.hub.origin + "/v1/users/erin/kick"
            self.said.append(call(url, b'{"all":true}', {"X-API-Key": key})[1])
        with self.upgrade({"Origin": "http://localhost:8000"}) as (_, status):
            self.assertEqual(status, 403)
        self.assertEqual(call(self.hub.origin + "/ws", None, {"X-Forwarded-For": "192.0.2.7"})[0], 426)
        self.assertEqual(call(self.hub.origin + "/v1/webhooks/test", b"", {"X-API-Key": API_KEY})[0], 200)

    def commands(self):
        with tempfile.TemporaryDirectory(prefix="presence-hub-") as folder:
            for settings, command in (
                ({"SERVER__LISTEN": "0.0.0.0:7800"}, "check-config"),
                ({"WEBHOOK__URL": "http://127.0.0.1:3000/"}, "check-config"),
                ({}, "token --user alice"),
            ):
                kept = {name: value for name, value in os.environ.items() if not name.startswith("PRESENCE_HUB_")}
                env = {**kept, **{f"PRESENCE_HUB__{name}": value for name, value in settings.items()}}
                ended = subprocess.run([BINARY, *command.split()], cwd=folder, env=env, capture_output=True, text=True)
                self.assertNotEqual(ended.returncode, 0)
                self.said += ended.stderr.splitlines()

    def closes(self, client, code):
        with self.assertRaises(websockets.ConnectionClosed) as closed:
            while True:
                client.hear()
        self.assertEqual(closed.exception.rcvd.code, code)


class Refuses(http.server.BaseHTTPRequestHandler):
    """A back end that finds every signature wrong."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(401)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(b"wrong signature")

    def log_message(self, *_):
        pass


def pattern(line):
    """A printed line: … stands for any text."""
    return re.compile(".*".join(re.escape(part.strip()) for part in line.split("…")))


def signed(claims, secret=SECRET, algorithm="HS256"):
    data = b".".join(base64url(json.dumps(part).encode()) for part in ({"alg": algorithm}, claims))
    return (data + b"." + base64url(hmac.digest(secret.encode(), data, hashlib.sha256))).decode()


if __name__ == "__main__":
    unittest.main()
