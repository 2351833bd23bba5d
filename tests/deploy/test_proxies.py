"""The examples for nginx, Caddy and HAProxy in front of a real hub."""

import http.client
import json
import os
import pathlib
import re
import tempfile
import time
import tomllib
import unittest

from websockets.exceptions import ConnectionClosed, InvalidStatus

from machine import ADMIN_KEY, API_KEY, CERTIFICATE, CERTIFICATE_KEY, DEPLOY, ELSEWHERE, HOST, ROOT
from machine import Program, api, call, client, make_certificate, needs, replaced, run, start_hub, trusting

PROXIES = DEPLOY / "proxies"
# For the tests, an idle timeout of 500 s becomes this.
IDLE_S = 3
# Native apps are pinged more often than that, pages less often.
SETTINGS = {
    "liveness.native_ping": "1s",
    "liveness.native_silence": "5s",
    "liveness.web_ping": "60s",
    "liveness.web_silence": "150s",
}


class Proxy:
    """What every example must do. Each proxy has a class of its own below."""

    cuts_idle_connections = True

    def setUp(self):
        make_certificate()
        self.hub = start_hub(self, SETTINGS)
        self.directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.directory.chmod(0o755)
        self.proxy = self.start()
        self.addCleanup(self.proxy.stop)
        self.proxy.until(self.is_there, "the proxy answers")

    def is_there(self):
        try:
            return call(f"https://{HOST}/ready")[0] == 200
        except OSError:
            return False

    def test_websockets_pass_with_the_address_and_the_scheme_of_the_client(self):
        page = {"Origin": f"https://{HOST}"}
        forged = {"X-Forwarded-For": "198.51.100.1"}
        with client(headers={**page, **forged}) as (ann, _):
            self.assertIn("ok", ann.login("ann", "web"))
            shown = [entry["address"] for entry in api("/v1/addresses")["addresses"]]
            self.assertEqual(shown, [ELSEWHERE])
        with self.assertRaises(InvalidStatus) as refused, client(headers={"Origin": "https://other.example"}):
            pass
        self.assertEqual(refused.exception.response.status_code, 403)
        login = json.dumps({"key": ADMIN_KEY}).encode()
        status, headers, text = call(f"https://{HOST}/v1/admin/session", login, {"Content-Type": "application/json"})
        self.assertEqual(status, 200, text)
        self.assertIn("Secure", headers["Set-Cookie"], "the hub knows that the client uses https")

    def test_the_close_code_of_a_kick_reaches_the_client(self):
        with client() as (ann, connection):
            self.assertIn("ok", ann.login("ann", "linux"))
            body, key = b'{"all": true}', {"Authorization": f"Bearer {API_KEY}"}
            self.assertEqual(call("http://127.0.0.1:7800/v1/users/ann/kick", body, key)[0], 200)
            self.assertEqual(ann.hear()["type"], "kicked")
            with self.assertRaises(ConnectionClosed) as closed:
                ann.hear()
            self.assertEqual(closed.exception.rcvd.code, 4501)

    def test_an_idle_connection_lives_while_the_hub_pings_more_often_than_the_idle_timeout(self):
        with client() as (native, _), client() as (page, _):
            self.assertIn("ok", native.login("ann", "linux"))
            self.assertIn("ok", page.login("bob", "web"))
            began = time.monotonic()
            if self.cuts_idle_connections:
                # Without pings the same connection is cut, so it is the pings that keep the other one.
                with self.assertRaises(ConnectionClosed):
                    page.hear()
                self.assertGreater(time.monotonic() - began, IDLE_S - 0.5)
            # Two timeouts later the native app is still there.
            with self.assertRaises(TimeoutError):
                native._socket.recv(timeout=max(0, began + 2 * IDLE_S - time.monotonic()))
            native._socket.send(json.dumps({"type": "ping", "id": 7}))
            self.assertEqual(native.hear()["id"], 7)

    def test_events_are_not_buffered(self):
        connection = http.client.HTTPSConnection(HOST, 443, timeout=20, context=trusting())
        self.addCleanup(connection.close)
        headers = {"Authorization": f"Bearer {API_KEY}", "Accept": "text/event-stream"}
        connection.request("GET", "/v1/events?after=now", headers=headers)
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.headers["content-type"].startswith("text/event-stream"))
        with client() as (ann, _):
            self.assertIn("ok", ann.login("ann", "linux"))
            # The stream has no end, so this returns only because the line came by itself.
            while not (line := answer.readline().decode()).startswith("data:"):
                self.assertNotEqual(line, "", "the stream has ended")
            self.assertIn('"ann"', line)

    def test_plain_requests_pass(self):
        status, headers, text = call(f"https://{HOST}/static/presence.js")
        self.assertEqual((status, headers["cache-control"]), (200, "no-cache"))
        self.assertIn("PresenceClient", text)


@needs("nginx")
class Nginx(Proxy, unittest.TestCase):
    def start(self):
        text = (PROXIES / "nginx.conf").read_text()
        text = replaced(text, ("_timeout 500s", f"_timeout {IDLE_S}s"))
        pathlib.Path("/etc/nginx/conf.d/presence-hub.conf").write_text(text)
        pathlib.Path("/etc/nginx/sites-enabled/default").unlink(missing_ok=True)
        run("nginx", "-t")
        return Program("nginx", "-g", "daemon off;")

    def test_a_reload_keeps_websockets_open(self):
        with client() as (ann, _):
            self.assertIn("ok", ann.login("ann", "linux"))
            workers = self.workers()
            run("nginx", "-s", "reload")
            self.proxy.until(lambda: self.workers() - workers, "new workers run")
            ann._socket.send(json.dumps({"type": "ping", "id": 7}))
            self.assertEqual(ann.hear()["id"], 7)

    def workers(self):
        children = pathlib.Path(f"/proc/{self.proxy.process.pid}/task/{self.proxy.process.pid}/children")
        return set(children.read_text().split())


@needs("caddy")
class Caddy(Proxy, unittest.TestCase):
    cuts_idle_connections = False

    def start(self):
        own = f"{HOST} {{\n\ttls {CERTIFICATE} {CERTIFICATE_KEY}\n"
        text = replaced((PROXIES / "Caddyfile").read_text(), (f"{HOST} {{\n", own))
        file = self.directory / "Caddyfile"
        file.write_text("{\n\tadmin off\n}\n" + text)
        home = {**os.environ, "HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory)}
        run("caddy", "validate", "--config", file, "--adapter", "caddyfile", env=home)
        return Program("caddy", "run", "--config", file, "--adapter", "caddyfile", env=home)

    def test_the_example_itself_is_valid(self):
        home = {**os.environ, "HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory)}
        run("caddy", "validate", "--config", PROXIES / "Caddyfile", "--adapter", "caddyfile", env=home)


@needs("haproxy")
class HAProxy(Proxy, unittest.TestCase):
    def start(self):
        text = (PROXIES / "haproxy.cfg").read_text()
        text = replaced(text, ("tunnel          500s", f"tunnel          {IDLE_S}s"))
        pem = pathlib.Path("/etc/haproxy/hub.example.com.pem")
        pem.write_text(CERTIFICATE.read_text() + CERTIFICATE_KEY.read_text())
        file = self.directory / "haproxy.cfg"
        file.write_text(text)
        run("haproxy", "-c", "-f", file)
        return Program("haproxy", "-db", "-f", file)


class Timeouts(unittest.TestCase):
    """The numbers in the examples, against the defaults of the hub."""

    def test_idle_timeouts_are_longer_than_the_silence_that_the_hub_allows(self):
        settings = tomllib.loads((ROOT / "config.toml").read_text())
        silence = int(settings["liveness"]["native_silence"].removesuffix("s"))
        keep_alive = int(settings["server"]["keep_alive"].removesuffix("s"))
        rows = [
            ("proxies/nginx.conf", r"proxy_(?:read|send)_timeout (\d+)s", r"keepalive_timeout (\d+)s", 2),
            ("proxies/haproxy.cfg", r"timeout tunnel +(\d+)s", r"timeout http-keep-alive (\d+)s", 1),
            ("docker/three-hubs/haproxy.cfg", r"timeout tunnel +(\d+)s", r"timeout http-keep-alive (\d+)s", 1),
            ("proxies/Caddyfile", None, r"keepalive (\d+)s", 0),
        ]
        for file, idle, kept, count in rows:
            text = (DEPLOY / file).read_text()
            found = re.findall(idle, text) if idle else []
            self.assertEqual(len(found), count, file)
            for seconds in found:
                self.assertGreater(int(seconds), silence, file)
            for seconds in re.findall(kept, text):
                self.assertLess(int(seconds), keep_alive, file)
            self.assertTrue(re.findall(kept, text), file)


if __name__ == "__main__":
    unittest.main()
