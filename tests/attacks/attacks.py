"""The attacks that last some seconds: what one attacker does, and how many there are."""

import asyncio
import logging
import multiprocessing
import os
import ssl
import time
from dataclasses import dataclass, field
from typing import Callable

from client import connect, drain, frame, login, login_with, receive, text, upgrade
from hub import VIEWER_KEY, KeyPair, Secret, openssl


@dataclass
class Attack:
    count: int
    # An attacker: the hub, its number, and a number that all attackers share and may raise.
    one: Callable
    settings: dict = field(default_factory=dict)
    signer: Callable = Secret
    seconds: int = 8
    # Processes: one is not enough where each attacker is busy.
    processes: int = 1
    # Before the attack.
    prepare: Callable | None = None
    # What else to report: the hub, the shared number, the seconds.
    note: Callable | None = None
    memory_limit: int | None = None


def pause(per_second):
    """Pauses between messages, so that there are this many in a second."""
    return asyncio.sleep(1 / per_second)


# Places.

async def never_reads(hub, n, _):
    _, writer = await connect(hub, buffer=4096)
    writer.write(b"GET /static/presence.js HTTP/1.1\r\nHost: hub\r\n\r\n" * 60)
    await asyncio.sleep(3600)


async def newcomer(hub, *_):
    begun = time.monotonic()
    while time.monotonic() - begun < 30:
        try:
            await asyncio.wait_for(login(hub, "newcomer"), 5)
            return f"a newcomer was admitted after {time.monotonic() - begun:.1f} s"
        except (OSError, EOFError, TimeoutError):
            await asyncio.sleep(0.2)
    return "a newcomer was not admitted within 30 s"


# Work.

async def storm(hub, n, ids, per_second):
    reader, writer = await login(hub, f"storm-{n}")
    asyncio.ensure_future(drain(reader))
    while True:
        for part in range(5):
            users = [f"{ids}-{part * 200 + i}" for i in range(200)]
            writer.write(text({"type": "subscribe", "id": 3, "users": users}))
            await pause(per_second)
        writer.write(text({"type": "unsubscribe", "id": 4, "all": True}))
        await pause(per_second)


async def junk(hub, n, _):
    reader, writer = await login(hub, f"junk-{n}")
    asyncio.ensure_future(drain(reader))
    large = text({"type": "query", "users": ["x" * 60], "junk": "y" * 64_000})
    while True:
        writer.write(large)
        await writer.drain()


async def fragments(hub, n, _):
    _, writer = await upgrade(hub)
    writer.write(frame(b"", first=0x01))
    empty = frame(b"", first=0x00) * 2000
    while True:
        writer.write(empty)
        await writer.drain()


# Memory.

async def hoard(hub, n, _):
    _, writer = await login(hub, f"hoard-{n % 3}", buffer=4096, device=f"device-{n}")
    users = [f"user-{i}" for i in range(200)]
    while not writer.transport.is_closing():
        writer.write(text({"type": "query", "id": 3, "users": users}))
        await pause(45)


async def survival(hub, *_):
    await asyncio.sleep(1)
    return "survived" if hub.is_alive() else "killed by the kernel"


# Cryptography.

async def forged_logins(hub, n, sent):
    """Logins with signatures that are wrong, one after the other."""
    tokens = [login_with(hub.signer.forged(f"forger-{n}-{i}"), "d") for i in range(50)]
    while True:
        for token in tokens:
            try:
                reader, writer = await upgrade(hub)
                writer.write(token)
                await receive(reader)
                writer.close()
                count_one(sent)
            except (OSError, EOFError):
                await asyncio.sleep(0.01)


def client_hello():
    """The first message of a TLS handshake."""
    given, made = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(given, made, server_hostname="hub").do_handshake()
    except ssl.SSLWantReadError:
        return made.read()


async def hellos(hub, n, sent):
    """TLS handshakes that end after the first message."""
    hello = client_hello()
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
            writer.write(hello)
            await reader.read(1)
            writer.transport.abort()
            count_one(sent)
        except OSError:
            await asyncio.sleep(0.01)


class Certificate(Secret):
    """A hub with TLS."""

    def __init__(self):
        directory = KeyPair("ES256")
        self.directory = directory
        certificate = os.path.join(directory.directory.name, "certificate.pem")
        openssl("req", "-x509", "-key", directory.private, "-subj", "/CN=hub", "-days", "1", "-out", certificate)
        tls = {"SERVER__TLS_CERTIFICATE": certificate, "SERVER__TLS_KEY": directory.private}
        self.settings = {**Secret.settings, **tls}


def count_one(number):
    with number.get_lock():
        number.value += 1


def rate(what):
    async def note(hub, number, seconds):
        return f"{number.value / seconds:,.0f} {what} a second"
    return note


# The disk, and what may be asked.

async def writes_log(hub, n, accepted):
    reader, writer = await login(hub, "writer", device=f"device-{n}")
    count = 0
    while True:
        count += 1
        writer.write(text({"type": "set", "id": 3, "custom": f"{n} {count} " + "x" * 240}))
        while b'"reply"' not in (answer := (await receive(reader))[1]):
            pass
        if b'"ok"' in answer:
            count_one(accepted)
        await pause(45)


async def total(hub, number, _):
    return f"{number.value:,.0f} accepted"


async def asks(hub, n, answered):
    """One user asks for one new id after the other, on several devices."""
    reader, writer = await login(hub, "curious", device=f"device-{n}")
    count = 0
    while True:
        users = [f"id-{n}-{count * 200 + i}" for i in range(200)]
        writer.write(text({"type": "query", "id": 3, "users": users}))
        _, answer = await receive(reader)
        with answered.get_lock():
            answered.value += answer.count(b'"version"')
        count += 1
        await pause(49)


async def people(hub):
    """Two thousand users to search among."""
    for first in range(0, 2000, 100):
        opened = await asyncio.gather(*(login(hub, f"person-{first + i}") for i in range(100)))
        for _, writer in opened:
            writer.close()


async def searches(hub, n, answered):
    while True:
        try:
            await searches_on_a_connection(hub, answered)
        except EOFError:  # The hub ends a connection after 1,000 requests.
            pass


async def searches_on_a_connection(hub, answered):
    reader, writer = await connect(hub)
    request = (f"GET /v1/users?contains=zzz HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {VIEWER_KEY}\r\n\r\n").encode()
    while True:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        if head.startswith(b"HTTP/1.1 200"):
            count_one(answered)


SEVERAL_DEVICES = {"LOGIN__POLICY": "multi", "LOGIN__MAX_INSTANCES__LINUX": "100"}
MIB = 2**20

ATTACKS = {
    "sockets": Attack(400, never_reads, {"SERVER__MAX_CONNECTIONS": "200"}, note=newcomer),
    "storm": Attack(300, lambda hub, n, _: storm(hub, n, "same", 48)),
    "own-ids": Attack(300, lambda hub, n, _: storm(hub, n, f"own-{n}", 24)),
    "memory": Attack(250, hoard, SEVERAL_DEVICES),
    "group": Attack(250, hoard, SEVERAL_DEVICES, note=survival, memory_limit=256 * MIB),
    "json": Attack(20, junk),
    "fragments": Attack(20, fragments),
    "es256": Attack(100, forged_logins, signer=lambda: KeyPair("ES256"), processes=2, note=rate("logins")),
    "rs256": Attack(100, forged_logins, signer=lambda: KeyPair("RS256"), processes=2, note=rate("logins")),
    "hellos": Attack(100, hellos, signer=Certificate, processes=2, note=rate("handshakes")),
    "log": Attack(16, writes_log, SEVERAL_DEVICES, seconds=40, note=total),
    "ids": Attack(20, asks, SEVERAL_DEVICES, seconds=20, note=rate("ids")),
    "keys": Attack(8, searches, prepare=people, note=rate("searches")),
}


class Attackers:
    """The processes of an attack."""

    def __init__(self, attack, hub):
        self.number = multiprocessing.Value("Q")
        share = attack.count / attack.processes
        parts = [range(round(share * n), round(share * (n + 1))) for n in range(attack.processes)]
        self.processes = [multiprocessing.Process(target=self.run, args=(attack, hub, part)) for part in parts]
        for process in self.processes:
            process.start()

    def run(self, attack, hub, numbers):
        # It warns of each write to a connection that the hub has closed.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)

        async def until_cut_off(n):
            try:
                await attack.one(hub, n, self.number)
            except (OSError, EOFError):
                pass

        async def all_of_them():
            await asyncio.gather(*(until_cut_off(n) for n in numbers))
            await asyncio.sleep(3600)
        asyncio.run(all_of_them())

    def stop(self):
        for process in self.processes:
            process.kill()
            process.join()
