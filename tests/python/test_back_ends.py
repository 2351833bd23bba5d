"""The back ends of docs/back-end run as their pages print them: their tokens log in, and their webhooks verify."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

from hub import SECRET, SOON_S, Hub
from pages import DOCS, block, blocks, files

# A key of 32 bytes whose base64 has a + and a /: a receiver that decodes it as base64url fails.
KEY = bytes([251, 239, 190, 255] * 8)
WEBHOOK_SECRET = "whsec_" + base64.b64encode(KEY).decode()
API_KEY = "the key of the back end"
# Maven downloads the libraries, and Go compiles, before the program starts.
START_S = 300

# The page of each language, and the programs that its commands need.
PAGES = {"node": ["node"], "python": ["python3"], "go": ["go"], "java": ["mvn", "javac"], "php": ["php"]}


class Program:
    """A back end that was started by the commands of its page."""

    def __init__(self, page):
        self._directory = tempfile.TemporaryDirectory(prefix="presence-hub-")
        for name, text in files(page).items():
            pathlib.Path(self._directory.name, name).write_text(text)
        port = free_port()
        self.origin = f"http://127.0.0.1:{port}"
        (commands,) = blocks(page, "sh")
        variables = {"TOKEN_SECRET": SECRET, "WEBHOOK_SECRET": WEBHOOK_SECRET, "PORT": str(port)}
        self._process = subprocess.Popen(
            ["bash", "-euc", commands],
            cwd=self._directory.name,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip())
        self._lines.put(None)

    def wait(self):
        """Waits until it answers."""
        deadline = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return call(self.origin + "/")
            time.sleep(0.05)
        raise AssertionError(f"it did not start: {list(self._lines.queue)}")

    def prints(self, wanted):
        """Waits for a line, and returns those before it."""
        before = []
        deadline = time.monotonic() + SOON_S
        with contextlib.suppress(queue.Empty):
            while (line := self._lines.get(timeout=max(0, deadline - time.monotonic()))) is not None:
                if line == wanted:
                    return before
                before.append(line)
        raise AssertionError(f"it did not print {wanted!r}, but {before}")

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        self._directory.cleanup()


class BackEnds(unittest.TestCase):
    def test_each_page_is_run(self):
        pages = {page.stem for page in (DOCS / "back-end").glob("*.md")} - {"README"}
        self.assertEqual(pages, set(PAGES))

    def test_node(self):
        self.run_page("node")

    def test_python(self):
        self.run_page("python")

    def test_go(self):
        self.run_page("go")

    def test_java(self):
        self.run_page("java")

    def test_php(self):
        self.run_page("php")

    def run_page(self, language):
        if missing := [program for program in PAGES[language] if not shutil.which(program)]:
            self.skipTest(f"not installed: {missing}")
        program = Program(f"back-end/{language}.md")
        self.addCleanup(program.stop)
        program.wait()
        hub = self.start_hub(program)
        self.tokens_log_in(program, hub)
        self.only_the_hub_is_believed(program)

    def start_hub(self, program):
        hub = Hub({
            "auth.api_keys": json.dumps([API_KEY]),
            "webhook.url": program.origin + "/presence-webhook",
            # The receiver has the second secret of a hub whose secrets are rotated.
            "webhook.secrets": json.dumps(["whsec_" + base64.b64encode(bytes(32)).decode(), WEBHOOK_SECRET]),
        })
        self.addCleanup(hub.stop)
        return hub

    def tokens_log_in(self, program, hub):
        self.assertEqual(call(program.origin + "/presence-token")[0], 401, "nobody is logged in")
        status, token, headers = call(program.origin + "/presence-token?user=m%C3%BCller%20%22a%22")
        self.assertEqual((status, headers["cache-control"]), (200, "no-store"))
        with hub.connect() as client:
            logged_in = client.login_with(token, "web")
            self.assertEqual(logged_in["ok"]["user"], 'müller "a"')
            self.assertAlmostEqual(logged_in["ok"]["expires_at"] / 1000, time.time() + 3600, delta=60)
            program.prints('müller "a": Offline -> Online (login)')
        status, answer, _ = call(hub.origin + "/v1/webhooks/test", b"", {"X-API-Key": API_KEY})
        self.assertEqual((status, json.loads(answer)), (200, {"accepted": True, "error": None}))

    def only_the_hub_is_believed(self, program):
        url = program.origin + "/presence-webhook"
        body = request_of("mallory")
        right = signed(body)
        wrong = {
            "another body": (body.replace(b"mallory", b"someone"), right),
            "another id": (body, {**right, "webhook-id": "other"}),
            "another key": (body, signed(body, key=bytes(32))),
            "an old request": (body, signed(body, at=time.time() - 400)),
            "a request of the future": (body, signed(body, at=time.time() + 400)),
            "no time": (body, {**right, "webhook-timestamp": ""}),
            "no signature": (body, {**right, "webhook-signature": ""}),
            "no headers": (body, {}),
        }
        for name, (sent, headers) in wrong.items():
            with self.subTest(name):
                self.assertEqual(call(url, sent, headers)[0], 401)
        self.assertIn(call(url, body, right)[0], (200, 204))
        before = program.prints("mallory: Offline -> Online (login)")
        self.assertEqual([line for line in before if "mallory" in line or "someone" in line], [])


class TheReadme(unittest.TestCase):
    def test_the_commands_start_a_hub_and_it_answers_them(self):
        """The settings, and the calls, as printed; the hub's program, its address and the webhook are the test's."""
        create = block("back-end/README.md", "sh", "openssl")
        start = block("back-end/README.md", "sh", "PRESENCE_HUB__AUTH__SECRET")
        with tempfile.TemporaryDirectory(prefix="presence-hub-") as folder:
            commands = create + start.replace("target/release/presence-hub\n", "env\n")
            printed = subprocess.run(["bash", "-euc", commands], cwd=folder, capture_output=True, text=True, check=True).stdout
        variables = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
        names = [name for name in variables if name.startswith("PRESENCE_HUB__")]
        settings = {name.removeprefix("PRESENCE_HUB__").replace("__", "."): variables[name] for name in names}
        hub = Hub({name.lower(): value for name, value in settings.items() if not name.startswith("WEBHOOK.")})
        self.addCleanup(hub.stop)
        for part, answer in {"/v1/status": '"statuses":[{"user":"alice"', "/kick": '"kicked":[]'}.items():
            command = block("back-end/README.md", "sh", part).replace("http://127.0.0.1:7800", hub.origin)
            command = command.replace("curl", "curl --noproxy '*'")
            env = {**os.environ, "API_KEY": variables["API_KEY"]}
            said = subprocess.run(["bash", "-euc", command], env=env, capture_output=True, text=True, check=True).stdout
            self.assertIn(answer, said)
        self.assertTrue(re.fullmatch(r"whsec_[\w+/]{43}=", variables["WEBHOOK_SECRET"]))

    def test_the_copy_keeps_the_newest_status(self):
        statement = block("back-end/README.md", "sql", "INSERT")
        table = sqlite3.connect(":memory:")
        self.addCleanup(table.close)
        table.execute("CREATE TABLE presence (user_id TEXT PRIMARY KEY, state TEXT NOT NULL, version BIGINT NOT NULL)")
        for state, version in (("Online", 1), ("Offline", 3), ("PushOnline", 2), ("Online", 1)):
            table.execute(statement, {"user": "alice", "state": state, "version": version})
        self.assertEqual(table.execute("SELECT * FROM presence").fetchall(), [("alice", "Offline", 3)])


def request_of(user):
    """The body of a webhook request, as far as the programs read it."""
    event = {"user": user, "cause": "login", "state": {"from": "Offline", "to": "Online"}}
    return json.dumps({"events": [event]}).encode()


def signed(body, key=KEY, at=None):
    """The headers of a webhook request."""
    sent = str(int(time.time() if at is None else at))
    signature = hmac.digest(key, b"id." + sent.encode() + b"." + body, hashlib.sha256)
    return {
        "webhook-id": "id",
        "webhook-timestamp": sent,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }


def call(url, body=None, headers=()):
    """The status, the text and the headers of the answer."""
    request = urllib.request.Request(url, body, dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=SOON_S) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def free_port():
    """A port for a program that cannot report the one it takes."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    unittest.main()
