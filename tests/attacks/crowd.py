"""The long attack: a crowd of well-behaved clients, and everything that is harmless alone, all at once."""

import asyncio
import multiprocessing
import os
import time

from attacks import Attack, Attackers, count_one, pause
from client import UPGRADE, connect, drain, frame, login, login_with, percentile, probe, receive, text, upgrade
from hub import Hub, Secret, raised_priority

IDLE = 15_000
SILENT = 2_000
DEAF = 500
BROKEN_PER_SECOND = 200
ROUNDS = 3
# How many clients connect at once.
IN_FLIGHT = 100


class IdleClient(asyncio.Protocol):
    """Logs in, watches its neighbour, and from then on only answers pings."""

    def __init__(self, crowd, hub, n):
        self.crowd, self.hub, self.n = crowd, hub, n
        self.received = b""
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(UPGRADE)

    def data_received(self, data):
        self.received += data
        if self.received.startswith(b"HTTP"):
            head, end, rest = self.received.partition(b"\r\n\r\n")
            if not end:
                return
            self.received = rest
            self.transport.write(login_with(self.hub.signer.token(f"idle-{self.n}"), "d"))
        while message := self.next_frame():
            self.answer(*message)

    def next_frame(self):
        received = self.received
        if len(received) < 2:
            return None
        size, begin = received[1] & 0x7F, 2
        if size == 126:
            size, begin = int.from_bytes(received[2:4]), 4
        if len(received) < begin + size:
            return None
        self.received = received[begin + size:]
        return received[0], received[begin:begin + size]

    def answer(self, first, payload):
        if first == 0x89:
            self.transport.write(frame(payload, first=0x8A))
        elif b'"type":"status"' in payload and b'"state":"Online"' not in payload:
            count_one(self.crowd.shown_offline)
        elif b'"session"' in payload:
            neighbour = f"idle-{(self.n + 1) % IDLE}"
            self.transport.write(text({"type": "subscribe", "id": 2, "users": [neighbour]}))
        elif b'"statuses"' in payload and not self.ready.done():
            self.ready.set_result(None)

    def connection_lost(self, _):
        count_one(self.crowd.dropped)
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the hub closed the connection"))


class IdleCrowd:
    """The well-behaved clients, in a process of their own."""

    def __init__(self, hub):
        self.opened, self.dropped, self.shown_offline = (multiprocessing.Value("Q") for _ in range(3))
        self.process = multiprocessing.Process(target=lambda: asyncio.run(self.live(hub)))
        self.process.start()
        begun = time.monotonic()
        while self.opened.value < IDLE:
            if self.dropped.value or not self.process.is_alive() or time.monotonic() - begun > 300:
                raise SystemExit(f"only {self.opened.value} of {IDLE} idle clients logged in")
            time.sleep(0.1)

    async def live(self, hub):
        loop, places = asyncio.get_running_loop(), asyncio.Semaphore(IN_FLIGHT)
        clients = []

        async def open_one(n):
            async with places:
                _, client = await loop.create_connection(lambda: IdleClient(self, hub, n), "127.0.0.1", hub.port)
                clients.append(client)
                await client.ready
                count_one(self.opened)
        await asyncio.gather(*(open_one(n) for n in range(IDLE)))
        await asyncio.sleep(3600)

    def stop(self):
        self.process.kill()
        self.process.join()


async def again_and_again(work):
    """Repeats what the hub ends."""
    while True:
        try:
            await work()
        except (OSError, EOFError):
            pass
        await asyncio.sleep(0.1)


async def silent(hub, n, _):
    """Upgrades, and never logs in."""
    async def once():
        reader, _ = await upgrade(hub)
        await drain(reader)
    await asyncio.sleep(n / SILENT * 5)
    await again_and_again(once)


async def deaf(hub, n, _):
    """Logs in, asks for 200 statuses each second, and reads nothing."""
    async def once():
        _, writer = await login(hub, f"deaf-{n}", buffer=4096)
        users = [f"idle-{i}" for i in range(200)]
        while not writer.transport.is_closing():
            writer.write(text({"type": "query", "id": 3, "users": users}))
            await pause(1)
    await again_and_again(once)


BROKEN = [b"\x16\x03\x01\x02\x00\x01\x00", b"GET /ws HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\n\r\n",
          b"GET /ws HTTP/1.1\r\n", os.urandom(200), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]


async def broken(hub, n, _):
    """Handshakes that are wrong or never complete."""
    async def once():
        reader, writer = await connect(hub)
        writer.write(BROKEN[n % len(BROKEN)])
        try:
            await asyncio.wait_for(drain(reader), 1)
        except TimeoutError:
            pass
        writer.transport.abort()
    while True:
        await asyncio.gather(once(), pause(BROKEN_PER_SECOND / 200), return_exceptions=True)


async def bad_login(hub, n, sent):
    async def once():
        reader, writer = await upgrade(hub)
        writer.write(login_with(hub.signer.forged(f"forger-{n}"), "d"))
        await receive(reader)
        count_one(sent)
        writer.close()
    while True:
        await asyncio.gather(once(), return_exceptions=True)


ALL = [Attack(SILENT, silent), Attack(DEAF, deaf), Attack(200, broken), Attack(50, bad_login)]


def crowd(binary, seconds):
    """Runs the rounds; returns lines of the report, and whether all that is promised holds."""
    hub, idle = Hub(binary, {"LIVENESS__NATIVE_PING": "20s", "LIVENESS__NATIVE_SILENCE": "60s"}, Secret()), None
    try:
        idle = IdleCrowd(hub)
        time.sleep(5)
        with raised_priority():
            quiet = percentile(asyncio.run(probe(hub, 20)), 0.99)
        print(f"crowd: {IDLE:,} idle clients, quiet: p99 {quiet:.2f} ms, {hub.look():.0f} MiB", flush=True)
        p99, memory = [], []
        for n in range(1, ROUNDS + 1):
            attackers = [Attackers(attack, hub) for attack in ALL]
            time.sleep(3)
            with raised_priority():
                times = asyncio.run(probe(hub, seconds))
            greatest, bad = hub.memory, attackers[-1].number.value / (seconds + 3)
            for attacker in attackers:
                attacker.stop()
            time.sleep(5)
            p99.append(percentile(times, 0.99))
            memory.append(hub.look())
            hub.memory = 0
            print(f"crowd: round {n}: p50 {percentile(times, 0.5):.2f} ms, p99 {p99[-1]:.2f} ms, {bad:,.0f} bad logins "
                  f"a second, at most {greatest:.0f} MiB, {memory[-1]:.0f} MiB after it, "
                  f"{idle.dropped.value} dropped, {idle.shown_offline.value} shown Offline", flush=True)
        online, stalls = hub.stats()["users"]["Online"], hub.metric("stalls_total")
        print(f"crowd: {online:,} users online at the end, {stalls:.0f} stalls", flush=True)
        limit = max(2 * quiet, 5)
        holds = {
            f"the median of p99 is at most {limit:.2f} ms": sorted(p99)[1] <= limit,
            "the hub closed no idle client": idle.dropped.value == 0,
            "no idle client was shown Offline to its watcher": idle.shown_offline.value == 0,
            "memory grew by at most 10 %": memory[-1] <= memory[0] * 1.1,
        }
        for what, is_so in holds.items():
            print(f"crowd: {'ok' if is_so else 'NOT SO'}: {what}", flush=True)
        return all(holds.values())
    finally:
        if idle:
            idle.stop()
        hub.stop()
