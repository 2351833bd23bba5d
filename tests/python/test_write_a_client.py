"""The client of docs/write-a-client.md, as printed, follows the checklist of its page."""

import asyncio
import contextlib
import importlib.util
import json
import os
import pathlib
import random
import re
import sys
import tempfile
import unittest
import unittest.mock

import websockets

from hub import SOON_S, Hub, token
from pages import DOCS, files

PAGE = "write-a-client.md"


def load(folder):
    """The module that the page prints."""
    path = pathlib.Path(folder, "presence_client.py")
    path.write_text(files(PAGE)[path.name])
    spec = importlib.util.spec_from_file_location("presence_client", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Device:
    """An installation of the client: its file, what it was told, and how many tokens it fetched."""

    def __init__(self, test, name, platform="linux", user="alice", lives=None):
        self.module = test.module
        self.file = pathlib.Path(test.folder, f"{name}.json")
        self.platform, self.user = platform, user
        self.lives = lives or [3600]  # of the tokens, in seconds; the last one is repeated; None: it cannot be fetched
        self.tokens = 0
        self.told = []
        self.running = None
        test.devices.append(self)

    def start(self, url, by_user=False, users=("bob",)):
        self.client = self.module.PresenceClient(
            url, self.platform, list(users), self.get_token, self.told.append, self.file
        )
        self.running = asyncio.create_task(self.client.run(by_user))
        return self

    async def get_token(self):
        lives = self.lives[min(self.tokens, len(self.lives) - 1)]
        self.tokens += 1
        if lives is None:
            raise OSError("the back end is down")
        return token(self.user, lives=lives)

    async def ends(self):
        return await asyncio.wait_for(self.running, SOON_S)

    async def logged_in(self, but=None):
        """Waits for a session, and returns it."""
        return await until(lambda: self.running and self.client.session not in (None, but) and self.client.session)

    async def sees(self, *states):
        await until(lambda: [status["state"] for status in self.told][-len(states):] == list(states))

    async def stop(self):
        if self.running:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)


class Path:
    """A TCP proxy to the hub, whose connections can be cut."""

    async def start(self, origin):
        host, port = origin.removeprefix("http://").split(":")
        self.attempts, self.open, self.refuses, self._pairs = 0, set(), False, set()

        async def pass_on(reader, writer):
            self.attempts += 1
            if self.refuses:
                return writer.transport.abort()
            far_reader, far_writer = await asyncio.open_connection(host, port)
            self.open |= {writer, far_writer}
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

        async def copy(reader, writer):
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    writer.write(data)
            writer.close()

        self._server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"
        return self

    def cut(self):
        for writer in self.open:
            writer.transport.abort()
        self.open = set()

    async def stop(self):
        self._server.close()
        self.cut()


class OnAHub(unittest.IsolatedAsyncioTestCase):
    SETTINGS = {}

    async def asyncSetUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="presence-hub-"))
        self.module = load(self.folder)
        self.hub = await asyncio.to_thread(Hub, {"auth.leeway": "0s", **self.SETTINGS})
        self.devices = []
        self.path = await Path().start(self.hub.origin)

    async def asyncTearDown(self):
        for device in self.devices:
            await device.stop()
        await self.path.stop()
        await asyncio.to_thread(self.hub.stop)

    @property
    def url(self):
        return self.hub.origin.replace("http", "ws") + "/ws"

    async def test_it_sees_a_user_come_and_go(self):
        alice = Device(self, "alice").start(self.url, by_user=True)
        await alice.sees("Offline")
        bob = Device(self, "bob", user="bob").start(self.url, by_user=True)
        await alice.sees("Offline", "Online")
        await bob.client.logout()
        self.assertEqual(await bob.ends(), "logout")
        await alice.sees("Offline", "Online", "Offline")

    async def test_a_lost_connection_is_resumed_and_subscribed_again(self):
        alice = Device(self, "alice", "android").start(self.path.url, by_user=True)
        session = await alice.logged_in()
        await alice.sees("Offline")
        self.path.cut()
        await until(lambda: self.path.attempts == 2)
        await alice.sees("Offline", "Offline")
        self.assertEqual((alice.client.session, alice.tokens), (session, 1))
        Device(self, "bob", user="bob").start(self.url, by_user=True)
        await alice.sees("Offline", "Offline", "Online")

    async def test_a_restart_of_the_app_resumes_the_session(self):
        first = Device(self, "alice", "android").start(self.url, by_user=True)
        session = await first.logged_in()
        await first.stop()
        again = Device(self, "alice", "android").start(self.url)
        self.assertEqual(await again.logged_in(), session)

    async def test_a_kicked_client_stays_away_until_the_user_acts(self):
        first = Device(self, "first").start(self.path.url, by_user=True)
        await first.logged_in()
        second = Device(self, "second").start(self.url, by_user=True)
        self.assertEqual(await first.ends(), "kicked")
        self.assertEqual(await Device(self, "first").start(self.path.url).ends(), "kicked")
        self.assertEqual(self.path.attempts, 1, "nothing was tried")
        first.start(self.path.url, by_user=True)
        await first.logged_in()
        self.assertEqual(await second.ends(), "kicked")

    async def test_a_reconnect_kicks_nobody(self):
        first = Device(self, "first").start(self.path.url, by_user=True)
        await first.logged_in()
        self.path.refuses = True
        self.path.cut()
        await until(lambda: self.path.attempts > 1)
        second = Device(self, "second").start(self.url, by_user=True)
        session = await second.logged_in()
        self.path.refuses = False
        await first.client.wake()
        self.assertEqual(await first.ends(), "superseded")
        self.assertEqual(second.client.session, session)
        self.assertFalse(second.running.done())

    async def test_an_expiring_token_is_refreshed(self):
        alice = Device(self, "alice", lives=[2, 3600]).start(self.path.url, by_user=True)
        session = await alice.logged_in()
        await until(lambda: alice.tokens == 2)
        await asyncio.to_thread(self.hub_waits_until_expired)
        self.assertEqual((alice.client.session, self.path.attempts), (session, 1))

    def hub_waits_until_expired(self):
        """A second session with a token of the same lifetime, begun later, has been ended."""
        with self.hub.connect() as other:
            other.login_with(token("carol", lives=3), "web")
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    other.hear()

    async def test_after_an_expired_token_it_comes_back_with_another(self):
        alice = Device(self, "alice", "android", lives=[2, None, 3600]).start(self.path.url, by_user=True)
        session = await alice.logged_in()
        await until(lambda: alice.tokens == 3 and self.path.attempts == 2)
        self.assertEqual(await alice.logged_in(), session)

    async def test_waking_ends_the_wait(self):
        alice = Device(self, "alice", "android").start(self.path.url, by_user=True)
        await alice.logged_in()
        with unittest.mock.patch.object(self.module.random, "uniform", lambda least, most: 1000):
            with unittest.mock.patch.object(self.module, "LONGEST_WAIT_S", 1000):
                self.path.cut()
                await until(lambda: alice.client.delay == 1000)
                await alice.client.wake()
                await until(lambda: self.path.attempts == 2)

    async def test_the_program_prints_who_comes(self):
        """main.py, with tokens from a back end."""
        for name, text in files(PAGE).items():
            pathlib.Path(self.folder, name).write_text(text)
        async with back_end(token("alice")) as tokens:
            program = await asyncio.create_subprocess_exec(
                sys.executable, "main.py", self.url, tokens, "bob",
                cwd=self.folder, env={**os.environ, "PYTHONPATH": ""}, stdout=asyncio.subprocess.PIPE,
            )
            try:
                self.assertEqual(await line(program), "bob Offline")
                Device(self, "bob", user="bob").start(self.url, by_user=True)
                self.assertEqual(await line(program), "bob Online")
                Device(self, "other").start(self.url, by_user=True)
                self.assertEqual(await line(program), "the session is over: kicked")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    program.kill()
                await program.wait()


class OnAScript(unittest.IsolatedAsyncioTestCase):
    """Hubs that do what a real one seldom does."""

    async def asyncSetUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory(prefix="presence-hub-"))
        self.module = load(self.folder)
        self.devices, self.logins, self.delays = [], [], []

    async def asyncTearDown(self):
        for device in self.devices:
            await device.stop()

    async def play(self, *connections, device=None):
        """Connections that the client makes, each a list of what the hub sends after the login; a number closes."""
        scripts = iter(connections)

        async def serve(socket):
            login = json.loads(await socket.recv())
            self.logins.append(login)
            for step in next(scripts, [4501]):
                if isinstance(step, int):
                    return await socket.close(step)
                if step is None:
                    return socket.transport.abort()
                if step == "ok":
                    step = {"type": "reply", "id": login["id"], "ok": {"session": f"s{len(self.logins)}"}}
                await socket.send(json.dumps(step))
            await socket.wait_closed()

        device = device or Device(self, "alice")
        async with websockets.serve(serve, "127.0.0.1", 0) as server:
            # No wait is waited for, but noted.
            wait_for = asyncio.wait_for

            async def noted(waiting, delay):
                self.delays.append(delay)
                return await wait_for(waiting, 0)

            with unittest.mock.patch.object(self.module.asyncio, "wait_for", noted):
                device.start(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", by_user=True)
                over = await wait_for(asyncio.shield(device.running), SOON_S)
        return device, over

    async def test_the_first_login_may_kick_and_no_later_one(self):
        await self.play([None], ["ok", None], ["ok", 1001], [1013], ["ok", 4007], ["ok", 4501])
        resumes = [login.get("resume") for login in self.logins]
        self.assertEqual(resumes, [None, "", "s2", "s3", "s3", ""])
        self.assertEqual(len({login["device"] for login in self.logins}), 1)

    async def test_the_wait_grows_is_limited_and_begins_anew_after_a_login(self):
        with unittest.mock.patch.object(self.module.random, "uniform", lambda least, most: most):
            await self.play(*[[None]] * 8, ["ok", None], [4501])
        self.assertEqual(self.delays, [1, 1.5, 2.5, 4.5, 8.5, 16.5, 20, 20, 1])

    async def test_every_code_from_4500_on_is_final(self):
        for code, why in {4501: "kicked", 4503: "superseded", 4504: "4504", 4505: "login_conflict", 4999: "4999"}.items():
            device, over = await self.play(["ok", code], device=Device(self, str(code)))
            self.assertEqual(over, why)
            self.assertEqual(json.loads(device.file.read_text())["session"], None)

    async def test_the_kicked_message_counts_without_its_close(self):
        kicked = {"type": "kicked", "reason": "admin", "by": None, "at": 1}
        _, over = await self.play(["ok", kicked, None], ["ok", None])
        self.assertEqual((over, len(self.logins)), ("kicked", 1))

    async def test_closing_says_how_long_to_wait(self):
        await self.play(["ok", {"type": "closing", "reason": "drain", "reconnect_ms": 1377}, 1001], [4501])
        self.assertEqual(self.delays, [1.377])

    async def test_a_refused_token_is_replaced_once(self):
        device, over = await self.play(["ok", None], [4502], [4502], [4502])
        self.assertEqual((over, device.tokens, len(self.logins)), ("invalid_token", 2, 3))

    async def test_an_expired_token_is_replaced_at_once(self):
        device, _ = await self.play(["ok", 4001], [4501])
        self.assertEqual((device.tokens, self.delays), (2, [0]))

    async def test_older_versions_are_ignored_on_one_connection(self):
        def status(version, state="Online"):
            return {"type": "status", "user": "bob", "state": state, "version": version}

        device, _ = await self.play(["ok", status(5), status(4), status(5), status(7), None], ["ok", status(3), status(0), 4501])
        self.assertEqual([told["version"] for told in device.told], [5, 7, 3, 0])

    async def test_what_it_does_not_know_is_ignored(self):
        later = {"type": "of a later version", "id": 9}
        _, over = await self.play(["ok", later, {"type": "status", "user": "bob", "state": "New", "version": 1}, 4501])
        self.assertEqual(over, "kicked")


class TheChecklist(unittest.TestCase):
    def test_the_rules_that_the_code_names_exist(self):
        page = (DOCS / PAGE).read_text()
        rules = [int(number) for number in re.findall(r"^(\d+)\. ", page, re.M)]
        self.assertEqual(rules, list(range(1, len(rules) + 1)))
        code = files(PAGE)["presence_client.py"]
        named = {int(number) for comment in re.findall(r"  # ([\d, ]+)$", code, re.M) for number in comment.split(",")}
        self.assertLessEqual(named, set(rules))
        self.assertGreater(len(named), 20)


@contextlib.asynccontextmanager
async def back_end(text):
    """Answers every request with this text."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/presence-token"


async def line(program):
    return (await asyncio.wait_for(program.stdout.readline(), SOON_S)).decode().rstrip()


async def until(holds):
    """Waits until a condition holds, and returns its value."""
    async with asyncio.timeout(SOON_S):
        while not (value := holds()):
            await asyncio.sleep(0.02)
        return value


if __name__ == "__main__":
    unittest.main()
