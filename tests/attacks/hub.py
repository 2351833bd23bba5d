"""A hub of our own on 127.0.0.1, and the tokens that it accepts."""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request

SECRET = "a secret that only the attacks use"
VIEWER_KEY = "a viewer key that only the attacks use"
PAGE = os.sysconf("SC_PAGE_SIZE")


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def unsigned(algorithm, user):
    """The part of a token that is signed: its header and its claims."""
    now = int(time.time())
    header, claims = {"alg": algorithm}, {"sub": user, "iat": now, "exp": now + 3600}
    return b".".join(url64(json.dumps(part).encode()) for part in (header, claims))


class Secret:
    """Tokens that are signed with a secret (HS256)."""

    settings = {"AUTH__SECRET": SECRET}

    def token(self, user):
        text = unsigned("HS256", user)
        mac = hmac.new(SECRET.encode(), text, hashlib.sha256).digest()
        return (text + b"." + url64(mac)).decode()

    def forged(self, user):
        return (unsigned("HS256", user) + b"." + url64(os.urandom(32))).decode()


class KeyPair:
    """Tokens that are signed with a private key, by openssl."""

    GENERATE = {
        "ES256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "RS256": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    }

    def __init__(self, algorithm):
        self.algorithm = algorithm
        self.directory = tempfile.TemporaryDirectory()
        self.private = os.path.join(self.directory.name, "private.pem")
        public = os.path.join(self.directory.name, "public.pem")
        openssl("genpkey", *self.GENERATE[algorithm], "-out", self.private)
        openssl("pkey", "-in", self.private, "-pubout", "-out", public)
        self.settings = {"AUTH__ALGORITHM": algorithm, "AUTH__PUBLIC_KEY": public}

    def token(self, user):
        text = unsigned(self.algorithm, user)
        signature = openssl("dgst", "-sha256", "-sign", self.private, given=text)
        if self.algorithm == "ES256":
            signature = pair_of(signature)
        return (text + b"." + url64(signature)).decode()

    def forged(self, user):
        size = 64 if self.algorithm == "ES256" else 256
        # Below any modulus and any group order, so that the whole verification is done.
        return (unsigned(self.algorithm, user) + b"." + url64(b"\x01" + os.urandom(size - 1))).decode()


def openssl(*arguments, given=None):
    return subprocess.run(["openssl", *arguments], input=given, check=True, capture_output=True).stdout


def pair_of(der):
    """The two numbers of an ECDSA signature in DER, 32 bytes each, as JSON Web Signatures have them (RFC 7518, 3.4)."""
    first = 4 + der[3]
    numbers = der[4:first], der[first + 2:]
    return b"".join(int.from_bytes(number).to_bytes(32) for number in numbers)


def raise_priority():
    """Only root may do so. Without it the attackers also compete with the hub for the processor."""
    if os.geteuid() == 0:
        os.setpriority(os.PRIO_PROCESS, 0, -10)


@contextlib.contextmanager
def raised_priority():
    """For the well-behaved client: what it measures is the hub, not how long it waited for the processor itself."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    raise_priority()
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


class ControlGroup:
    """A control group with a limit on its memory, inside the one of this process."""

    def __init__(self, limit):
        groups = dict(line.split(":", 2)[1:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines())
        if "memory" in groups:
            self.path = pathlib.Path("/sys/fs/cgroup/memory" + groups["memory"], f"attacked-{os.getpid()}")
            name = "memory.limit_in_bytes"
        else:
            self.path = pathlib.Path("/sys/fs/cgroup" + groups[""], f"attacked-{os.getpid()}")
            name = "memory.max"
        self.path.mkdir()
        (self.path / name).write_text(str(limit))

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        for _ in range(100):
            try:
                return self.path.rmdir()
            except OSError:  # The kernel has not yet removed the process.
                time.sleep(0.05)


class Hub:
    def __init__(self, binary, settings, signer, memory_limit=None, host="127.0.0.1"):
        self.signer, self.host = signer, host
        self.directory = tempfile.TemporaryDirectory()
        self.group = memory_limit and ControlGroup(memory_limit)
        with socket.socket() as free:
            free.bind((host, 0))
            self.port = free.getsockname()[1]
        variables = {
            "SERVER__LISTEN": f"{host}:{self.port}",
            "SERVER__PRODUCTION": "true",
            "AUTH__VIEWER_KEYS": json.dumps([VIEWER_KEY]),
            "STORE__PATH": self.directory.name,
            "LIMITS__CHANGES_PER_USER_PER_MINUTE": "100000",
            "LOG__FILTER": "warn",
            **signer.settings,
            **settings,
        }
        self.uses_tls = "SERVER__TLS_CERTIFICATE" in variables
        variables = {f"PRESENCE_HUB__{name}": value for name, value in variables.items()}
        self.log = pathlib.Path(self.directory.name, "log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([binary], env={**os.environ, **variables}, cwd=self.directory.name,
                                            stdout=log, stderr=log, preexec_fn=self.prepare)
        self.memory = 0
        self.wait_until_it_listens()

    def prepare(self):
        raise_priority()
        if self.group:
            self.group.enter()

    def wait_until_it_listens(self):
        for _ in range(200):
            try:
                return socket.create_connection((self.host, self.port), timeout=5).close()
            except OSError:
                time.sleep(0.05)
        self.stop()
        raise SystemExit("the hub did not start")

    def call(self, path, **headers):
        scheme = "https" if self.uses_tls else "http"
        request = urllib.request.Request(f"{scheme}://{self.host}:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10, context=self.tls()) as answer:
            return answer.read().decode()

    def stats(self):
        return json.loads(self.call("/v1/stats", Authorization=f"Bearer {VIEWER_KEY}"))

    def metric(self, name):
        try:
            return float(re.search(rf"^presence_hub_{name} (\S+)$", self.call("/metrics"), re.M)[1])
        except (OSError, TypeError):
            return float("nan")

    def tls(self):
        """What a client needs to speak TLS with the hub; None if it does not."""
        if not self.uses_tls:
            return None
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def look(self):
        """Returns the memory in use now, in MiB, and remembers the greatest."""
        try:
            with open(f"/proc/{self.process.pid}/statm") as statm:
                now = int(statm.read().split()[1]) * PAGE / 2**20
        except (OSError, IndexError):
            return float("nan")
        self.memory = max(self.memory, now)
        return now

    def is_alive(self):
        return self.process.poll() is None

    def stop(self):
        self.process.kill()
        self.process.wait()
        if self.group:
            self.group.remove()
        self.directory.cleanup()
