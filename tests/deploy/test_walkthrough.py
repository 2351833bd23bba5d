"""Runs the commands of deploy/README.md in their order, as printed, on a machine that has nothing yet."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from hub import BINARY
from machine import DEPLOY, HOST, call, client, needs, until
from test_systemd import UNIT, Unit, open_files

# The commands that need what this machine has not. deploy/README.md lists them, too.
NOT_RUN = {
    "ssh -L": "another machine",
    "docker build": "a container runtime",
    "kubectl create": "a cluster",
}

# Stand-ins, first in PATH. `cargo` does nothing, because the hub is built already; `apt-get` neither, because tests/run
# has installed the packages.
SUDO = '#!/bin/sh\nexec "$@"\n'
NOTHING = "#!/bin/sh\n"
# What systemctl would do with the unit and with nginx.
SYSTEMCTL = r"""#!/bin/bash
set -eu
start() {
  if [ "$1" = nginx ]; then nginx >/dev/null 2>&1; return; fi
  install -d -m STATE_MODE -o USER -g GROUP /var/lib/STATE
  cd /
  setsid prlimit --nofile=FILES setpriv --reuid=USER --regid=GROUP --init-groups EXEC \
    >>/var/log/presence-hub.log 2>&1 </dev/null &
  echo $! >/run/presence-hub.pid
  # Type=exec: until the hub's program runs.
  timeout 20 sh -c 'until readlink "/proc/$0/exe" | grep -q "/presence-hub$"; do sleep 0.02; done' $!
}
stop() {
  if [ "$1" = nginx ]; then [ ! -s /run/nginx.pid ] || nginx -s quit; return; fi
  [ -e /run/presence-hub.pid ] || return 0
  pid=$(cat /run/presence-hub.pid)
  rm /run/presence-hub.pid
  kill "$pid"
  while [ -e "/proc/$pid" ]; do sleep 0.02; done
}
case "$*" in
  daemon-reload) ;;
  "enable --now presence-hub") start presence-hub ;;
  "reload presence-hub") kill -HUP "$(cat /run/presence-hub.pid)" ;;
  "start "*) start "$2" ;;
  "stop "*) stop "$2" ;;
  "restart "*) stop "$2"; start "$2" ;;
  *) echo "systemctl $*: not expected" >&2; exit 1 ;;
esac
"""


def blocks():
    """The shell commands of the page."""
    return re.findall(r"^```sh\n(.*?)^```", (DEPLOY / "README.md").read_text(), re.S | re.M)


@needs("nginx")
@needs("systemd-analyze")
class Walkthrough(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.folder.chmod(0o755)
        (self.folder / "deploy").symlink_to(DEPLOY)
        (self.folder / "target" / "dist").mkdir(parents=True)
        (self.folder / "target" / "dist" / "presence-hub").symlink_to(BINARY)
        stand_ins = self.folder / "stand-ins"
        stand_ins.mkdir()
        programs = {"sudo": SUDO, "cargo": NOTHING, "apt-get": NOTHING, "systemctl": self.systemctl()}
        for name, text in programs.items():
            (stand_ins / name).write_text(text)
            (stand_ins / name).chmod(0o755)
        self.variables = {key: value for key, value in os.environ.items() if not key.startswith("PRESENCE_HUB_")}
        self.variables["PATH"] = f"{stand_ins}:{self.variables['PATH']}:/usr/sbin:/sbin"
        # certbot's directory.
        pathlib.Path("/etc/letsencrypt/renewal-hooks/deploy").mkdir(parents=True)
        pathlib.Path("/var/backups").mkdir(exist_ok=True)
        self.addCleanup(self.shell, "systemctl stop presence-hub; systemctl stop nginx")

    @staticmethod
    def systemctl():
        unit = Unit(UNIT)
        text = SYSTEMCTL.replace("EXEC", unit.service("ExecStart"))
        names = {"STATE_MODE": "StateDirectoryMode", "STATE": "StateDirectory", "USER": "User", "GROUP": "Group"}
        for name, key in names.items():
            text = text.replace(name, unit.service(key))
        return text.replace("FILES", str(open_files(unit)))

    def shell(self, commands):
        """Runs a block: every command of it must succeed."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=60,
        )
        self.assertEqual(ended.returncode, 0, f"{commands}\n{ended.stdout}\n{self.log()}")
        return ended.stdout

    @staticmethod
    def log():
        log = pathlib.Path("/var/log/presence-hub.log")
        return log.read_text() if log.exists() else ""

    def test_the_commands_of_the_production_guide_run_in_their_order(self):
        printed, not_run = [], set()
        for block in blocks():
            reason = [start for start in NOT_RUN if block.startswith(start)]
            if reason:
                not_run.update(reason)
                continue
            printed.append((block, self.shell(block)))
            if "nginx -t" in block:
                self.somebody_logs_in()
        self.assertEqual(not_run, set(NOT_RUN), "every exception is still in the page")
        commands = "".join(block for block, _ in printed)
        for stand_in in ("cargo build", "apt-get install", "systemctl enable"):
            self.assertIn(stand_in, commands, "it has a stand-in, and deploy/README.md says so")

        def of(part):
            found = [text for block, text in printed if part in block]
            self.assertEqual(len(found), 1, part)
            return found[0]

        self.assertIn('production = true', of("sudo tee /etc/presence-hub/config.toml"))
        self.assertEqual(of("enable --now"), '{"status":"ready"}')
        self.assertTrue(of("nginx -t").endswith('{"status":"ready"}'))
        self.assertIn('"users"', of("/v1/stats"))
        self.assertEqual(of("target/dist/presence-hub /usr/local/bin/     #"), '{"status":"ready"}')
        until(lambda: "configuration reloaded" in self.log(), "the last command reloads the hub")
        self.assertNotIn("ERROR", self.log())
        config = pathlib.Path("/etc/presence-hub/config.toml").stat()
        self.assertEqual(config.st_mode & 0o777, 0o640)
        hook = pathlib.Path("/etc/letsencrypt/renewal-hooks/deploy/presence-hub")
        for name in ("fullchain.pem", "privkey.pem"):
            (self.folder / name).write_text(name)
        self.shell(f"RENEWED_LINEAGE={self.folder} {hook}")
        copied = pathlib.Path("/etc/presence-hub/tls/privkey.pem")
        self.assertEqual((copied.stat().st_mode & 0o777, copied.group()), (0o640, "presence-hub"))

    def somebody_logs_in(self):
        """Through nginx, with the certificate and the secret that the commands made."""
        token = self.shell("presence-hub token --config /etc/presence-hub/config.toml --user alice 2>/dev/null").strip()
        with client() as (alice, connection):
            connection.send(f'{{"type":"login","id":1,"platform":"web","device":"d","token":"{token}"}}')
            self.assertIn("ok", alice.hear())
        self.assertEqual(call(f"https://{HOST}/v1/stats")[0], 404, "the server API is not on the clients' address")


if __name__ == "__main__":
    unittest.main()
