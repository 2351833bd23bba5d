"""Starts a real hub for each test, in a temporary directory."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time

from websockets.sync.client import connect

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
BINARY = os.environ.get("PRESENCE_HUB_BIN", TARGET / "debug" / "presence-hub")
SECRET = "a secret of at least thirty-two bytes"
START_S = 20
# The timeout for an immediate reaction, on a busy machine.
SOON_S = 20

# The hub is on this machine: no HTTP proxy.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"


# The settings that are secrets.
SECRETS = ("auth.secret", "auth.api_keys", "webhook.secrets", "tencent.secret_key", "tencent.callback_token")


class Hub:
    """A running hub; `settings` are configuration keys: {"login.policy": "dual"}."""

    def __init__(self, settings):
        secrets = [settings[key].strip('[]"') for key in SECRETS if settings.get(key)]
        # What no log may contain; "eyJ" begins every JWT.
        self._canary = ["eyJ", SECRET, *secrets]
        self._directory = tempfile.TemporaryDirectory(prefix="presence-hub-")
        self._log = open(os.path.join(self._directory.name, "log"), "w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [BINARY],
            cwd=self._directory.name,
            env=environment(settings),
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.origin = self._greeting()
        except BaseException:
            self.stop()
            raise

    def _greeting(self):
        """Waits for its first line, which has its address."""
        too_late = threading.Timer(START_S, self._process.kill)
        too_late.start()
        line = self._process.stdout.readline()
        too_late.cancel()
        words = [word for word in line.split() if word.startswith("http://")]
        if not words:
            self._log.seek(0)
            raise RuntimeError(f"the hub did not start:\n{line}{self._log.read()}")
        return words[0]

    def stop(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._log.seek(0)
        found = [line for line in self._log if any(secret in line for secret in self._canary)]
        self._log.close()
        self._directory.cleanup()
        assert not found, f"a secret is in the hub's log: {found[0]}"

    def log(self):
        """The lines of its log so far."""
        return pathlib.Path(self._log.name).read_text(encoding="utf-8").splitlines()

    @contextlib.contextmanager
    def connect(self):
        url = self.origin.replace("http://", "ws://") + "/ws"
        with connect(url, proxy=None, open_timeout=SOON_S) as socket:
            yield Client(socket)


class Client:
    """A minimal client: no resume, no reconnect, no ping."""

    def __init__(self, socket):
        self._socket = socket

    def login(self, user, platform, issued=None):
        """Logs in with a token issued at `issued` (default: now), and returns the reply."""
        return self.login_with(token(user, issued), platform)

    def login_with(self, token, platform, **more):
        self.send({"type": "login", "id": 1, "platform": platform, "device": platform, "token": token, **more})
        while (heard := self.hear()).get("type") != "reply":
            pass
        return heard

    def send(self, message):
        self._socket.send(json.dumps(message))

    def hear(self):
        return json.loads(self._socket.recv(timeout=SOON_S))


def environment(settings):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PRESENCE_HUB_")}
    own = {"server.listen": "127.0.0.1:0", "store.path": "data", "auth.secret": SECRET}
    for key, value in {**own, **settings}.items():
        kept["PRESENCE_HUB__" + key.replace(".", "__").upper()] = value
    return kept


def token(user, issued=None, lives=3600):
    """A JWT (HS256) that expires in `lives` seconds, an hour by default."""
    issued = int(time.time()) if issued is None else issued
    claims = {"sub": user, "iat": issued, "exp": int(time.time()) + lives}
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256"}, claims)]
    signed = b".".join(map(base64url, parts))
    signature = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64url(signature)).decode()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")
