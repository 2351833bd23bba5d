"""The services of the compose files as processes, with their commands and variables."""

import json
import os
import pathlib
import re
import shlex
import tempfile

import yaml

from hub import BINARY
from machine import DEPLOY, ELSEWHERE, Program, answers, client, instructions, replaced, run, until

DOCKER = DEPLOY / "docker"


def variables_of_image():
    """The ENV of the image, which is the last stage of the Dockerfile."""
    found = instructions()
    last = max(n for n, (name, _) in enumerate(found) if name == "FROM")
    texts = [rest for name, rest in found[last:] if name == "ENV"]
    return dict(part.split("=", 1) for text in texts for part in shlex.split(text))


class Compose:
    """A compose file with the variables of an .env file."""

    def __init__(self, path, printed):
        self.path = path
        self.values = dict(line.split("=", 1) for line in printed.splitlines())
        self.file = self.filled(yaml.safe_load(path.read_text()))
        self.services = self.file["services"]

    def filled(self, part):
        """The file with its variables replaced: ${NAME}, ${NAME:-default}, ${NAME:?message}."""
        if isinstance(part, dict):
            return {key: self.filled(value) for key, value in part.items()}
        if isinstance(part, list):
            return [self.filled(value) for value in part]
        if isinstance(part, str):
            return re.sub(r"\$\{(\w+)(?::([-?])([^}]*))?\}", self.value, part)
        return part

    def value(self, found):
        name, operator, default = found.groups()
        if name in self.values:
            return self.values[name]
        assert operator == "-", f"{self.path} needs {name}, which secrets does not print"
        return default

    def environment(self, service):
        own = {key: str(value) for key, value in self.services[service].get("environment", {}).items()}
        return {"PATH": os.environ["PATH"], **own}

    def hub(self, service, address):
        """The variables of a hub, which listens on one address instead of on all of a container."""
        both = {**variables_of_image(), **self.environment(service)}
        both["PRESENCE_HUB__STORE__PATH"] = tempfile.mkdtemp()
        return {key: value.replace("0.0.0.0:", f"{address}:") for key, value in both.items()}


def secrets():
    return run(DOCKER / "secrets")


def start(case, command, environment, directory=None):
    program = Program(*command, env=environment, cwd=directory or tempfile.mkdtemp())
    case.addCleanup(program.stop)
    return program


def token(environment, user):
    return run(BINARY, "token", "--user", user, env={**environment, "RUST_LOG": ""}).split("\n")[-2]


def key_of(environment):
    return json.loads(environment["PRESENCE_HUB__AUTH__API_KEYS"])[0]


def log_in(case, url, gateway, environment, user):
    """A client that comes through a proxy with TLS on this machine."""
    headers = {"X-Forwarded-For": ELSEWHERE, "X-Forwarded-Proto": "https"}
    found, connection = case.enterContext(client(url, source=gateway, headers=headers))
    login = {"type": "login", "id": 1, "platform": "linux", "device": user, "token": token(environment, user)}
    connection.send(json.dumps(login))
    case.assertIn("ok", found.hear())
    return found


class ThreeHubs:
    """The services of docker/three-hubs/compose.yaml, each on an address of its own, until the test ends."""

    def __init__(self, case, settings=None):
        self.case = case
        self.compose = Compose(DOCKER / "three-hubs" / "compose.yaml", secrets())
        names = ["redis", "hub-1", "hub-2", "hub-3", "balancer"]
        case.assertEqual(set(self.compose.services), set(names))
        network = self.compose.file["networks"]["hubs"]["ipam"]["config"][0]
        case.assertEqual((network["subnet"], network["gateway"]), ("172.30.79.0/24", "172.30.79.1"))
        self.addresses = {"gateway": "172.30.79.1", **{name: f"172.30.79.{10 + n}" for n, name in enumerate(names)}}
        hosts = pathlib.Path("/etc/hosts")
        for name, address in self.addresses.items():
            if f"{address} {name}\n" not in hosts.read_text():
                run("ip", "address", "add", f"{address}/32", "dev", "lo")
                hosts.write_text(f"{hosts.read_text()}{address} {name}\n")
        self.start_redis()
        self.environments = {
            name: {**self.compose.hub(name, self.addresses[name]), **(settings or {})} for name in names[1:4]
        }
        self.key = key_of(self.environments["hub-1"])
        self.hubs = {}
        for name in self.environments:
            self.start_hub(name)
        self.start_balancer()

    def start_redis(self):
        redis = self.compose.services["redis"]
        start(self.case, redis["command"], self.compose.environment("redis"))
        check = redis["healthcheck"]["test"]
        self.case.assertEqual(check[0], "CMD")
        until(lambda: succeeds(check[1:], self.compose.environment("redis")), "Redis is healthy")

    def start_hub(self, name):
        """Starts it, and waits until it is healthy, as `docker compose up --wait` does."""
        hub = self.hubs[name] = start(self.case, [BINARY], self.environments[name])
        hub.until(lambda: answers(f"http://{self.addresses[name]}:7800/health"), f"{name} is healthy")
        said = run(BINARY, "health", env=self.environments[name])
        self.case.assertEqual(said, '{"status":"ok"}\n')

    def stop_hub(self, name):
        """Stops it, as `docker stop` does: it must end by itself within the grace period."""
        process = self.hubs[name].process
        process.terminate()
        grace = int(self.compose.services[name]["stop_grace_period"].removesuffix("s"))
        self.case.assertEqual(process.wait(timeout=grace), 0)

    def start_balancer(self):
        mounted = self.compose.services["balancer"]["volumes"][0].split(":")[0]
        own = [(f"bind :{port}", f"bind {self.addresses['balancer']}:{port}") for port in (7800, 7801)]
        file = pathlib.Path(tempfile.mkdtemp(), "haproxy.cfg")
        file.write_text(replaced((DOCKER / "three-hubs" / mounted).read_text(), *own))
        run("haproxy", "-c", "-f", file)
        self.outside = f"{self.addresses['balancer']}:7800"
        self.admin = f"http://{self.addresses['balancer']}:7801"
        balancer = start(self.case, ["haproxy", "-db", "-f", file], os.environ)
        balancer.until(lambda: answers(f"http://{self.outside}/ready"), "the balancer answers")

    def log_in(self, user):
        url = f"ws://{self.outside}/ws"
        return log_in(self.case, url, self.addresses["gateway"], self.environments["hub-1"], user)


def succeeds(command, environment):
    try:
        return run(*command, env=environment)
    except AssertionError:
        return None
