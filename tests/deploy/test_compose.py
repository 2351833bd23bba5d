"""The compose files, as far as they run without a container runtime: hubs, Redis and HAProxy as processes."""

import unittest

import compose_spec
import yaml

from compose import DOCKER, Compose, ThreeHubs, key_of, log_in, secrets, start
from hub import BINARY
from machine import ELSEWHERE, ROOT, answers, api, needs, run, until


FOLDERS = ("", "three-hubs")


def validate(file):
    """Checks a file, after its variables were replaced, against the Compose Specification."""
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(file)).validate()


class ComposeFiles(unittest.TestCase):
    def test_they_follow_the_specification(self):
        mistakes = ({"stop_grace_periods": "30s"}, {"restart": "sometimes"}, {"networks": ["nowhere"]})
        for folder in FOLDERS:
            with self.subTest(folder=folder):
                compose = Compose(DOCKER / folder / "compose.yaml", secrets())
                validate(compose.file)
                for mistake in mistakes:
                    name, service = next(iter(compose.services.items()))
                    services = {**compose.services, name: {**service, **mistake}}
                    with self.assertRaises(ValueError):
                        validate({**compose.file, "services": services})

    def test_containers_are_hardened_and_have_time_to_stop(self):
        for folder in FOLDERS:
            compose = Compose(DOCKER / folder / "compose.yaml", secrets())
            for name, service in compose.services.items():
                with self.subTest(folder=folder, service=name):
                    for port in service.get("ports", []):
                        self.assertTrue(port.startswith("127.0.0.1:"), "only a proxy with TLS is published")
                    if name != "redis":
                        self.assertTrue(service["read_only"])
                        self.assertEqual(service["cap_drop"], ["ALL"])
                        self.assertGreater(service["ulimits"]["nofile"], 200_064)
                    if "hub" in name:
                        self.assertGreater(int(service["stop_grace_period"].removesuffix("s")), 20)
                        built = compose.path.parent / service["build"]["context"]
                        self.assertEqual(built.resolve(), ROOT)
                        self.assertTrue((built / service["build"]["dockerfile"]).exists())

    def test_one_hub(self):
        run("ip", "address", "add", "172.30.78.1/32", "dev", "lo")
        run("ip", "address", "add", "172.30.78.2/32", "dev", "lo")
        compose = Compose(DOCKER / "compose.yaml", secrets())
        self.assertEqual(compose.file["networks"]["hub"]["ipam"]["config"][0]["gateway"], "172.30.78.1")
        environment = compose.hub("hub", "172.30.78.2")
        hub = start(self, [BINARY], environment)
        hub.until(lambda: answers("http://172.30.78.2:7800/ready"), "the hub is ready")
        log_in(self, "ws://172.30.78.2:7800/ws", "172.30.78.1", environment, "ann")
        shown = api("/v1/addresses", "http://172.30.78.2:7801", key_of(environment))
        self.assertEqual(shown["addresses"], [{"address": ELSEWHERE, "connections": 1}])
        self.assertTrue(answers("http://172.30.78.2:7802/metrics"))

    @needs("redis-server")
    @needs("haproxy")
    def test_three_hubs_share_their_clients_and_one_may_stop(self):
        three = ThreeHubs(self)
        for user in ("ann", "bob", "eve"):
            three.log_in(user)
        for name in three.hubs:
            shown = api("/v1/addresses", f"http://{three.addresses[name]}:7801", three.key)["addresses"]
            self.assertEqual(shown, [{"address": ELSEWHERE, "connections": 1}], f"{name} has one of three clients")
        # Counts may be a second old.
        until(lambda: api("/v1/stats", three.admin, three.key)["users"]["Online"] == 3, "all three are counted")
        three.stop_hub("hub-1")
        for user in ("joe", "kim", "lou"):
            three.log_in(user)


if __name__ == "__main__":
    unittest.main()
