"""A rolling upgrade of three hubs under a thousand SDK clients, as deploy/README.md describes it.

That of one hub is in tests/sdk/restart.test.mjs.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import unittest
import urllib.parse

from compose import ThreeHubs
from hub import SOON_S
from machine import DEPLOY, api, call, needs, until

# Shorter than the default, for a shorter test.
DRAIN = "3s"


class Clients:
    """The clients of clients.mjs, until the test ends."""

    def __init__(self, case, url, address, secret):
        self.process = subprocess.Popen(
            ["node", pathlib.Path(__file__).with_name("clients.mjs"), url, address],
            env={"PATH": os.environ["PATH"], "SECRET": secret},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        case.addCleanup(self.stop)
        case.assertEqual(self.line(), "ready")

    def line(self):
        """The next line that it prints, within a minute."""

        def too_late(*_):
            raise AssertionError("the clients do not answer")

        signal.signal(signal.SIGALRM, too_late)
        signal.alarm(60)
        line = self.process.stdout.readline()
        signal.alarm(0)
        return line.strip()

    def report(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Log:
    """Reads the hubs' log of transitions from now on."""

    def __init__(self, three):
        self.three = three
        self.cursor = api("/v1/snapshot?limit=1", three.admin, three.key)["cursor"]

    def read(self, count):
        """The next events: `count`, or more. An event can be read a moment after its commit."""
        found = []

        def enough():
            page = api(f"/v1/events?after={urllib.parse.quote(self.cursor)}", self.three.admin, self.three.key)
            found.extend(page["events"])
            self.cursor = page["next"]
            return len(found) >= count

        until(enough, f"{count} events")
        return found


@needs("node")
@needs("redis-server")
@needs("haproxy")
class RollingUpgrade(unittest.TestCase):
    def test_no_watcher_sees_it(self):
        three = ThreeHubs(self, {"PRESENCE_HUB__SERVER__DRAIN": DRAIN})
        environment = three.environments["hub-1"]
        (secret,) = json.loads(environment["PRESENCE_HUB__AUTH__SECRETS"])
        log = Log(three)
        clients = Clients(self, f"ws://{three.outside}/ws", three.addresses["gateway"], secret)
        began = clients.report()
        count = began["clients"]
        self.assertEqual((began["open"], began["logins"], began["seen"]), (count, count, []))
        self.assertEqual({event["cause"] for event in log.read(count)}, {"login"})

        guide = (DEPLOY / "README.md").read_text()
        order = re.findall(r"--no-deps (hub-\d)`, then `(hub-\d)`, then `(hub-\d)`", guide)
        self.assertEqual([set(names) for names in order], [set(three.hubs)])
        for name in order[0]:
            self.assertGreater(connections(three, name), 0, f"{name} has clients before it stops")
            three.stop_hub(name)
            three.start_hub(name)
        until(lambda: clients.report()["open"] == count, "all clients are back", timeout=2 * SOON_S)

        after = clients.report()
        self.assertEqual((after["logins"], after["seen"]), (count, []), "no new session, and no watcher saw anything")
        self.assertEqual(after["never"], 0, "the hub of each client was stopped, so each has resumed its session")
        three.log_in("one-more")
        self.assertEqual([event["user"] for event in log.read(1)], ["one-more"], "the log has nothing before it")
        until(lambda: online(three) == count + 1, "everybody is counted as Online")
        print(f"\ntests/deploy: {count} clients, 3 hubs restarted, {after['resumes']} resumes, no status seen")


def online(three):
    return api("/v1/stats", three.admin, three.key)["users"]["Online"]


def connections(three, name):
    text = call(f"http://{three.addresses[name]}:7802/metrics")[2]
    return int(re.search(r"^presence_hub_connections (\d+)$", text, re.M)[1])


if __name__ == "__main__":
    unittest.main()
