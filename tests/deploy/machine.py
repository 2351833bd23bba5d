"""What the tests of deploy/ share: programs that run, certificates, and clients that come through a proxy."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

from hub import BINARY, SECRET, SOON_S, Client
from websockets.sync.client import connect

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
HOST = "hub.example.com"
# The address of a client elsewhere; tests/deploy/run adds it to the loopback device.
ELSEWHERE = "203.0.113.7"
API_KEY = "an-api-key-for-tests"
ADMIN_KEY = "an-admin-key-for-tests"
# The hub as the image has it: static, with the libraries of glibc. tests/deploy/run makes it.
STATIC = os.environ.get("PRESENCE_HUB_STATIC", str(ROOT / "target/static/presence-hub"))
# Programs that could not be installed. tests/run reports them.
WITHOUT = os.environ.get("WITHOUT_PROGRAMS", "").split()

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def needs(program):
    """Skips a test if tests/run could not install a program, and has reported that."""
    return unittest.skipIf(program in WITHOUT, f"{program} is not installed")


def until(condition, what, timeout=SOON_S):
    """Waits until the condition holds; returns its value."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.02)
    return value


def run(*command, **options):
    """Runs a command that must succeed; returns what it printed."""
    options = {"text": True, "timeout": 60, **options}
    ended = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    if ended.returncode != 0:
        raise AssertionError(f"{command} ended with {ended.returncode}:\n{ended.stdout}")
    return ended.stdout


class Program:
    """A program that runs until `stop`; its output is in `log`."""

    def __init__(self, *command, **options):
        self.command = [str(part) for part in command]
        self._log = tempfile.NamedTemporaryFile("w+", prefix="log-")
        self.process = subprocess.Popen(
            self.command, stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options
        )

    def log(self):
        return pathlib.Path(self._log.name).read_text(encoding="utf-8", errors="replace")

    def until(self, condition, what):
        def checked():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.command[0]} ended with {self.process.returncode}:\n{self.log()}")
            return condition()

        try:
            return until(checked, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=SOON_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


def variables(settings):
    """Settings as environment variables of a hub: {"login.policy": "dual"}."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PRESENCE_HUB_")}
    own = {
        "server.production": "true",
        "auth.secret": SECRET,
        "auth.api_keys": json.dumps([API_KEY]),
        "auth.admin_keys": json.dumps([ADMIN_KEY]),
    }
    named = {f"PRESENCE_HUB__{key.replace('.', '__').upper()}": value for key, value in {**own, **settings}.items()}
    return {**kept, **named}


def start_hub(case, settings=None):
    """Starts a hub on 127.0.0.1:7800 until the test ends."""
    directory = case.enterContext(tempfile.TemporaryDirectory())
    settings = {"server.trusted_proxies": '["127.0.0.1"]', "store.path": f"{directory}/data", **(settings or {})}
    hub = Program(BINARY, env=variables(settings), cwd=directory)
    case.addCleanup(hub.stop)
    hub.until(lambda: answers("http://127.0.0.1:7800/ready"), "the hub is ready")
    return hub


def answers(url):
    try:
        return call(url)[0] == 200
    except OSError:
        return False


def call(url, body=None, headers=None):
    """Sends a request, over TLS with the certificate of `certificate`; returns status, headers and text."""
    request = urllib.request.Request(url, data=body, headers=headers or {})
    opener = _opener
    if url.startswith("https:"):
        tls = urllib.request.HTTPSHandler(context=trusting())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), tls)
    try:
        with opener.open(request, timeout=SOON_S) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers, answer.read().decode()


def api(path, origin="http://127.0.0.1:7800", key=API_KEY):
    status, _, text = call(origin + path, headers={"Authorization": f"Bearer {key}"})
    assert status == 200, f"{path}: {status} {text}"
    return json.loads(text)


CERTIFICATE = pathlib.Path("/etc/ssl/hub.example.com.crt")
CERTIFICATE_KEY = CERTIFICATE.with_suffix(".key")


def make_certificate():
    """A certificate for hub.example.com, where the examples expect it. nginx and Caddy read two files, HAProxy one."""
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"),
        *("-keyout", CERTIFICATE_KEY, "-out", CERTIFICATE),
    )


def trusting():
    return ssl.create_default_context(cafile=CERTIFICATE)


@contextlib.contextmanager
def client(url=f"wss://{HOST}/ws", source=ELSEWHERE, headers=None, **options):
    """A client that comes from an address, over TLS and a proxy."""
    address = (url.split("/")[2].split(":") + ["443" if url.startswith("wss") else "80"])[:2]
    raw = socket.create_connection((address[0], int(address[1])), timeout=SOON_S, source_address=(source, 0))
    tls = {"ssl": trusting(), "server_hostname": HOST} if url.startswith("wss") else {}
    with connect(
        url, sock=raw, proxy=None, open_timeout=SOON_S, additional_headers=headers, ping_interval=None, **tls, **options
    ) as connection:
        yield Client(connection), connection


class Receiver:
    """A webhook's receiver that accepts everything, until the test ends."""

    def __init__(self, case):
        self.received = received = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                received.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        case.addCleanup(server.server_close)
        case.addCleanup(server.shutdown)


def replaced(text, *pairs):
    """Replaces parts of a text, each of which must be there."""
    for old, new in pairs:
        assert old in text, f"the file has no {old!r} any more"
        text = text.replace(old, new)
    return text


def instructions():
    """The instructions of the Dockerfile: [("FROM", "scratch"), …]."""
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]
