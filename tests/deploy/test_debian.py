"""The Debian package: built by cargo-deb from the hub of the tests, then installed, upgraded, removed and purged."""

import glob
import os
import pathlib
import re
import shutil
import tempfile
import tomllib
import unittest

from hub import BINARY
from machine import DEPLOY, ROOT, needs, run

SCRIPTS = DEPLOY / "debian"
CONFIGURATION = pathlib.Path("/etc/presence-hub")
STATE = pathlib.Path("/var/lib/presence-hub")
UNIT = pathlib.Path("/usr/lib/systemd/system/presence-hub.service")


class Metadata(unittest.TestCase):
    def test_each_file_of_the_package_is_there(self):
        deb = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["metadata"]["deb"]
        for source, target, mode in deb["assets"]:
            with self.subTest(source):
                if source != "target/release/presence-hub":
                    self.assertTrue(glob.glob(str(ROOT / source)))
                self.assertRegex(target, "^usr/(bin|share/doc/presence-hub)/")
                self.assertIn(mode, ("644", "755"))
        self.assertEqual(ROOT / deb["maintainer-scripts"], SCRIPTS)
        for script in ("postinst", "postrm"):
            self.assertIn("\n#DEBHELPER#\n", (SCRIPTS / script).read_text())
            run("sh", "-n", SCRIPTS / script)


@needs("cargo-deb")
@needs("dpkg-shlibdeps")
class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # The commands of deploy/systemd/README.md, but for the build.
        (command,) = re.findall(r"^cargo (deb .*)$", (DEPLOY / "systemd" / "README.md").read_text(), re.M)
        cls.directory = pathlib.Path(tempfile.mkdtemp())
        built = cls.directory / "dist" / "presence-hub"
        built.parent.mkdir()
        shutil.copy(BINARY, built)
        own = {**os.environ, "CARGO_TARGET_DIR": str(cls.directory)}
        run("cargo", *command.split(), "--no-build", "--fast", cwd=ROOT, env=own, timeout=120)
        (cls.deb,) = cls.directory.glob("debian/presence-hub_*.deb")

    def test_it_has_the_files_that_the_documents_name(self):
        listed = run("dpkg-deb", "--contents", self.deb)
        files = set(re.findall(r" \./(\S*[^/\s])$", listed, re.M))
        documents = "usr/share/doc/presence-hub"
        for file in (
            "usr/bin/presence-hub",
            "usr/lib/systemd/system/presence-hub.service",
            f"{documents}/config.toml",
            f"{documents}/README.md",
            f"{documents}/examples/60-presence-hub.conf",
            f"{documents}/examples/proxies/nginx.conf",
            f"{documents}/examples/observability/alerts.yaml",
        ):
            # Debian 12 has /lib as a link to /usr/lib, and packages may name either.
            self.assertTrue({file, file.removeprefix("usr/")} & files, file)
        depends = run("dpkg-deb", "--field", self.deb, "Depends")
        self.assertIn("libc6", depends)
        self.assertIn("adduser", depends)

    def test_it_is_installed_upgraded_removed_and_purged(self):
        said = run("dpkg", "--install", self.deb)
        self.assertIn("write /etc/presence-hub/config.toml", said)
        self.assertIn("/usr/sbin/nologin", run("getent", "passwd", "presence-hub"))
        self.assertEqual((CONFIGURATION.stat().st_mode & 0o777, CONFIGURATION.group()), (0o750, "presence-hub"))
        self.assertIn("presence-hub", run("/usr/bin/presence-hub", "--version"))
        self.assertEqual(UNIT.read_text(), (DEPLOY / "systemd" / "presence-hub.service").read_text())
        wanted = list(pathlib.Path("/etc/systemd/system").glob("*/presence-hub.service"))
        self.assertEqual(wanted, [], "it starts at boot only after systemctl enable")

        STATE.mkdir()
        (CONFIGURATION / "config.toml").write_text("[server]\nproduction = true\n")
        said = run("dpkg", "--install", self.deb)
        self.assertNotIn("write /etc/presence-hub/config.toml", said, "an upgrade finds the configuration")
        run("dpkg", "--remove", "presence-hub")
        self.assertFalse(UNIT.exists())
        self.assertTrue(CONFIGURATION.exists() and STATE.exists())
        run("dpkg", "--purge", "presence-hub")
        self.assertFalse(CONFIGURATION.exists() or STATE.exists())


if __name__ == "__main__":
    unittest.main()
