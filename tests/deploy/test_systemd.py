"""The systemd unit and the kernel settings."""

import configparser
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import tomllib
import unittest

from hub import BINARY
from machine import DEPLOY, ROOT, Program, answers, needs, run, variables

UNIT = DEPLOY / "systemd" / "presence-hub.service"
SYSCTL = DEPLOY / "systemd" / "60-presence-hub.conf"


class Unit(configparser.RawConfigParser):
    """A unit file."""

    def __init__(self, path):
        super().__init__(strict=False, interpolation=None, delimiters=["="])
        self.optionxform = str
        self.read_string(pathlib.Path(path).read_text())

    def service(self, key):
        return self["Service"][key]


class TheUnit(unittest.TestCase):
    def setUp(self):
        run("install", "-m", "755", BINARY, "/usr/local/bin/presence-hub")

    @needs("systemd-analyze")
    def test_systemd_accepts_it(self):
        self.assertEqual(run("systemd-analyze", "verify", "--man=no", UNIT), "")

    @needs("systemd-analyze")
    def test_it_gives_the_hub_no_more_than_it_needs(self):
        said = run("systemd-analyze", "security", "--offline=yes", "--threshold=20", UNIT)
        self.assertIn("OK", said)

    def test_its_commands_run_the_hub_reload_it_and_stop_it_in_time(self):
        unit = Unit(UNIT)
        run("useradd", "--system", "--shell", "/usr/sbin/nologin", unit.service("User"))
        self.addCleanup(run, "userdel", unit.service("User"))
        state = pathlib.Path("/var/lib", unit.service("StateDirectory"))
        self.addCleanup(shutil.rmtree, state)
        self.addCleanup(shutil.rmtree, "/etc/presence-hub")
        state.mkdir(mode=int(unit.service("StateDirectoryMode"), 8))
        config = pathlib.Path("/etc/presence-hub/config.toml")
        config.parent.mkdir()
        secret = "a secret of at least thirty-two bytes"
        config.write_text(f'[server]\nproduction = true\n[auth]\nsecret = "{secret}"\n[store]\npath = "{state}"\n')
        os.chmod(config, 0o640)
        run("chown", f"{unit.service('User')}:", state)
        run("chgrp", unit.service("Group"), config)
        with_limit = ["prlimit", f"--nofile={open_files(unit)}"]
        hub = Program(*with_limit, *as_user(unit), *command(unit, "ExecStart"), env=path_of_systemd())
        self.addCleanup(hub.stop)
        hub.until(lambda: answers("http://127.0.0.1:7800/ready"), "the hub is ready")
        self.assertEqual(state.stat().st_mode & 0o777, 0o700)
        self.assertTrue(list(state.iterdir()), "the store is in the state directory")

        config.write_text(config.read_text() + '[login]\npolicy = "multi"\n')
        pid = str(hub.process.pid)
        run(*[pid if part == "$MAINPID" else part for part in command(unit, "ExecReload")])
        hub.until(lambda: "configuration reloaded" in hub.log(), "the hub has read its file again")

        hub.process.send_signal(signal.SIGTERM)
        self.assertEqual(hub.process.wait(timeout=int(unit.service("TimeoutStopSec"))), 0)

    def test_it_waits_longer_than_a_stop_takes_and_allows_as_many_files_as_connections(self):
        settings = tomllib.loads((ROOT / "config.toml").read_text())["server"]
        unit = Unit(UNIT)
        posting = re.search(r"POSTING_MAX: Duration = Duration::from_secs\((\d+)\)", (ROOT / "src/app.rs").read_text())
        longest = int(settings["drain"].removesuffix("s")) + int(posting[1])
        self.assertGreater(int(unit.service("TimeoutStopSec")), longest)
        self.assertGreater(int(unit.service("LimitNOFILE")), settings["max_connections"] + 64)


class Kernel(unittest.TestCase):
    def test_each_setting_exists(self):
        for line in SYSCTL.read_text().splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.partition(" = ")
                path = pathlib.Path("/proc/sys", key.replace(".", "/"))
                self.assertTrue(path.exists(), key)
                # The namespace of the tests has values of its own.
                if key.startswith("net."):
                    path.write_text(value)
                    self.assertEqual(path.read_text().split(), value.split())


def command(unit, key):
    """A command of the unit, found as systemd finds it."""
    return shlex.split(unit.service(key))


def open_files(unit):
    """The unit's limit, or the greatest that this machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = int(unit.service("LimitNOFILE"))
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def path_of_systemd():
    kept = {key: value for key, value in variables({}).items() if not key.startswith("PRESENCE_HUB_")}
    return {**kept, "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def as_user(unit):
    user, group = unit.service("User"), unit.service("Group")
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups", "--no-new-privs", "--bounding-set=-all"]


if __name__ == "__main__":
    unittest.main()
