"""The image of deploy/docker/Dockerfile, built by buildah and run as a container runtime would run it.

The registry with the base image may be out of reach, so the base is a stand-in: this machine's /usr and certificates,
and a `cargo` that checks how it is called and then copies the static binary that tests/deploy/run has made with the
Dockerfile's flag. Everything else is as in the file: the steps run, and the last stage becomes the image.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

from hub import SECRET
from machine import DEPLOY, ROOT, STATIC, Program, Receiver, answers, call, client, instructions, needs, run

DOCKER = DEPLOY / "docker"
IMAGE_BYTES_MAX = 25 * 1024 * 1024
BINARY = "/usr/local/bin/presence-hub"
IS_DIST = "/dist/" in STATIC

CARGO = r"""#!/bin/sh
set -eu
target="$(uname -m)-unknown-linux-gnu"
if [ "$*" != "build --profile dist --locked --target $target" ]; then echo "cargo $*: not expected" >&2; exit 1; fi
if [ "$RUSTFLAGS" != "-C target-feature=+crt-static" ]; then echo "RUSTFLAGS=$RUSTFLAGS" >&2; exit 1; fi
test -e Cargo.lock -a -e Cargo.toml -a -e .cargo/config.toml -a -e src/main.rs -a -e static/presence.js
test ! -e .git -a ! -e target -a ! -e tests -a ! -e deploy
install -D /presence-hub "target/$target/dist/presence-hub"
"""


class Buildah:
    """buildah with a storage of its own, without a daemon and without a network."""

    def __init__(self, directory):
        self.command = ["buildah", "--root", directory / "root", "--runroot", directory / "run"]
        self.command += ["--storage-driver", "vfs"]

    def __call__(self, *arguments):
        return run(*self.command, *arguments, timeout=300)

    def build(self, tag, context, *options):
        self("build", "--isolation", "chroot", "--format", "docker", "--tag", tag, *options, context)


def base_image(directory):
    """The files of the stand-in for the base image: a root without /usr, which is mounted when a step runs."""
    for name in ("bin", "lib", "lib64", "sbin"):
        (directory / name).symlink_to(f"usr/{name}")
    certificates = directory / "etc/ssl/certs/ca-certificates.crt"
    certificates.parent.mkdir(parents=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", certificates)
    (directory / "stand-ins").mkdir()
    (directory / "stand-ins/cargo").write_text(CARGO)
    (directory / "stand-ins/cargo").chmod(0o755)
    shutil.copy(STATIC, directory / "presence-hub")
    (directory / "Dockerfile").write_text(
        "FROM scratch\nCOPY . /\nENV PATH=/stand-ins:/usr/local/bin:/usr/bin:/usr/sbin\n"
    )
    return directory


def built():
    """Builds the image once; returns its configuration and the folder with its files."""
    directory = pathlib.Path(tempfile.mkdtemp())
    buildah = Buildah(directory / "storage")
    (directory / "base").mkdir()
    (base,) = [rest.split()[0] for name, rest in instructions() if name == "FROM" and rest.endswith(" AS build")]
    buildah.build(base, base_image(directory / "base"))
    own = ("--file", DOCKER / "Dockerfile", "--ignorefile", DOCKER / "Dockerfile.dockerignore")
    buildah.build("presence-hub", ROOT, "--pull-never", "--volume", "/usr:/usr:ro", *own)
    image = json.loads(buildah("inspect", "--type", "image", "presence-hub"))["Docker"]
    container = buildah("from", "--pull-never", "presence-hub").strip()
    return image["config"], pathlib.Path(buildah("mount", container).strip())


@needs("buildah")
class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.config, cls.files = built()

    def setUp(self):
        self.environment = dict(part.split("=", 1) for part in self.config["Env"])
        self.environment.pop("PATH", None)

    def test_it_has_no_shell_and_only_the_files_that_it_needs(self):
        files = {str(path.relative_to(self.files)) for path in self.files.rglob("*") if not path.is_dir()}
        expected = {BINARY[1:], "etc/ssl/certs/ca-certificates.crt", "etc/passwd", "etc/group"}
        self.assertEqual(files, expected)
        self.assertRegex(self.config["User"], r"^[1-9]\d*:[1-9]\d*$", "Kubernetes cannot see that a name is not root")

    def test_its_binary_is_static(self):
        said = subprocess.run(["ldd", self.files / BINARY[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertRegex(said.stdout.decode(), "statically linked|not a dynamic executable")

    @unittest.skipUnless(IS_DIST, "the binary is not from the profile dist; tests/deploy/run says so")
    def test_it_is_small(self):
        size = sum(path.stat().st_size for path in self.files.rglob("*") if path.is_file())
        print(f"\ntests/deploy: the files of the image have {size} bytes, {size / 1024 / 1024:.1f} MiB")
        self.assertLess(size, IMAGE_BYTES_MAX)

    def test_the_hub_runs_in_it_read_only_as_its_user_and_is_healthy(self):
        (volume,) = self.config["Volumes"]
        self.assertEqual(volume, self.environment["PRESENCE_HUB__STORE__PATH"])
        root = self.container(volume)
        inside = ["chroot", f"--userspec={self.config['User']}", root]
        entry = self.config["Entrypoint"]
        self.assertEqual(self.config["ExposedPorts"], {"7800/tcp": {}})
        without_secret = {**self.environment, "PATH": os.environ["PATH"]}
        with self.assertRaisesRegex(AssertionError, "auth.secrets"):
            run(*inside, *entry, env=without_secret)
        receiver = Receiver(self)
        names = Names(self)
        settings = {
            "PRESENCE_HUB__AUTH__SECRETS": json.dumps([SECRET]),
            "PRESENCE_HUB__WEBHOOK__URL": f"http://receiver.example:{receiver.port}/",
            "PRESENCE_HUB__WEBHOOK__SECRETS": '["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]',
        }
        environment = {**without_secret, **settings}
        hub = Program(*inside, *entry, env=environment)
        self.addCleanup(hub.stop)
        hub.until(lambda: answers("http://127.0.0.1:7800/ready"), "the hub is ready")
        status = pathlib.Path(f"/proc/{hub.process.pid}/status").read_text()
        self.assertRegex(status, r"Uid:\t65532\t65532\t65532\t65532")
        kind, *check = self.config["Healthcheck"]["Test"]
        self.assertEqual(kind, "CMD", "there is no shell")
        self.assertEqual(run(*inside, *check, env=environment), '{"status":"ok"}\n')
        with client("ws://127.0.0.1:7800/ws", source="127.0.0.1") as (ann, _):
            self.assertIn("ok", ann.login("ann", "linux"))
        # A static binary can look up names without the libraries of glibc.
        hub.until(lambda: receiver.received, "the webhook reaches a receiver by its name")
        self.assertIn("receiver.example", names.asked)
        if IS_DIST:  # A debug build reads the pages from the folder static/.
            self.assertEqual(call("http://127.0.0.1:7800/static/presence.js")[0], 200, "the pages are in the binary")
        hub.stop()
        self.assertEqual(hub.process.returncode, 0, "STOPSIGNAL ends the hub, process 1, in order")
        with self.assertRaisesRegex(AssertionError, "no answer from http://127.0.0.1:7800/health"):
            run(*inside, *check, env=environment)

    def container(self, volume):
        """The files of the image as a container runtime mounts them: read-only, with /dev, /proc and the volume."""
        root = self.files
        state = root / volume.removeprefix("/")
        self.assertEqual((state.stat().st_uid, state.stat().st_mode & 0o777), (65532, 0o700))
        for name, text in {"resolv.conf": "nameserver 127.0.0.1\n", "hosts": "127.0.0.1 localhost\n"}.items():
            path = root / "etc" / name
            path.write_text(text)
            self.addCleanup(path.unlink)
        for name in ("dev", "proc"):
            (root / name).mkdir()
            self.addCleanup((root / name).rmdir)
        for mount in (
            ("--bind", root, root),
            ("-o", "remount,bind,ro", root),
            # A new volume takes the owner and the mode of the image's directory.
            ("-t", "tmpfs", "-o", "uid=65532,gid=65532,mode=700", "tmpfs", state),
            ("-t", "proc", "proc", root / "proc"),
            # The static binary reads /dev/urandom.
            ("--bind", "/dev", root / "dev"),
        ):
            run("mount", *mount)
        self.addCleanup(run, "umount", "--recursive", root)
        return root


class Context(unittest.TestCase):
    def test_the_build_gets_the_files_that_it_needs_and_no_others(self):
        ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        sent = {line[1:] for line in ignored if line.startswith("!")}
        self.assertIn("*", ignored)
        tracked = {name.split("/")[0] for name in run("git", "ls-files", cwd=ROOT).splitlines()}
        self.assertEqual(sent, {".cargo", "Cargo.lock", "Cargo.toml", "config.toml", "src", "static"})
        self.assertLessEqual(sent, tracked)

    def test_the_static_binary_of_the_tests_is_linked_with_the_flag_of_the_image(self):
        (flags,) = [rest for name, rest in instructions() if name == "ENV" and rest.startswith("RUSTFLAGS=")]
        flag = re.fullmatch(r'RUSTFLAGS="(.*)"', flags)[1]
        self.assertIn(f"-- {flag}", pathlib.Path(__file__).with_name("run").read_text())


class Names:
    """A name server on 127.0.0.1 that knows one address for every name."""

    def __init__(self, case):
        self.asked = set()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        case.addCleanup(self.socket.close)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(512)
            except OSError:
                return
            end = query.index(0, 12)
            labels, place = [], 12
            while place < end:
                labels.append(query[place + 1 : place + 1 + query[place]].decode())
                place += 1 + query[place]
            self.asked.add(".".join(labels))
            question = query[12 : end + 5]
            is_ipv4 = question[-4:-2] == b"\0\1"
            # RFC 1035: an answer with the same question, and one address if it is for IPv4.
            head = query[:2] + b"\x81\x80\0\1" + bytes([0, is_ipv4]) + bytes(4)
            address = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if is_ipv4 else b""
            self.socket.sendto(head + question + address, peer)


if __name__ == "__main__":
    unittest.main()
