"""The alert rules and the Grafana dashboard, against the metrics of running hubs."""

import contextlib
import json
import pathlib
import re
import tempfile
import time
import unittest

import promql_parser
import yaml
from websockets.exceptions import InvalidStatus

from hub import token
from machine import API_KEY, CERTIFICATE, CERTIFICATE_KEY, DEPLOY, WITHOUT
from machine import Program, Receiver, answers, call, client, make_certificate, needs, run, start_hub, until

ALERTS = DEPLOY / "observability" / "alerts.yaml"
DASHBOARD = DEPLOY / "observability" / "grafana-dashboard.json"
# Labels that Prometheus adds when it scrapes, and metrics that it makes itself.
ADDED = {"job", "instance"}
OF_PROMETHEUS = {"up": ADDED}
# A counter of panics, which no test can cause. A hub shows it from the first one on.
NOT_CAUSED = {"presence_hub_task_restarts_total": {"task"}}
# Grafana puts these in before it sends a query.
VARIABLES = {"$__rate_interval": "1m", "$job": "presence-hub", "$instance": ".*", "$datasource": "prometheus"}


def rules():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def queries():
    """Every query of the dashboard, with the name of its panel."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [(a["name"], a["expr"]) for a in dashboard["annotations"]["list"]]
    for panel in dashboard["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel.get("targets", [])]
    return [(title, without_variables(expression)) for title, expression in found]


def without_variables(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"an unknown variable in {expression}"
    return expression


def parts(expression):
    """The selectors of an expression as (metric, {label: (operator, value)}), and the labels it groups by."""
    selectors, labels = [], set()

    def visit(node):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            labels.update(node.modifier.labels)
        if isinstance(node, promql_parser.VectorSelector):
            selectors.append((node.name, {m.name: (str(m.op), m.value) for m in node.matchers.matchers}))

    promql_parser.walk(promql_parser.parse(expression), visit)
    return selectors, labels


class Metrics:
    """What /metrics has: the labels of each metric, and the values of each label."""

    def __init__(self):
        self.labels = {}

    def read(self, text):
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                name, kind = line.split()[2:4]
                for part in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
                    self.labels.setdefault(name + part, {})
            elif line and not line.startswith("#"):
                name, labels = re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line).groups()
                for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or ""):
                    self.labels.setdefault(name, {}).setdefault(label, set()).add(value)
        return self


class Expressions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.metrics = busy_hub()

    def check(self, expression):
        selectors, grouped = parts(expression)
        if "redis-server" in WITHOUT and "presence_hub_redis" in expression:
            self.skipTest("redis-server is not installed")
        self.assertTrue(selectors, "it asks for no metric")
        allowed = set(ADDED) | {"le"}
        for name, matchers in selectors:
            if name not in NOT_CAUSED:
                self.assertTrue(name in self.metrics.labels or name in OF_PROMETHEUS, f"no hub has the metric {name}")
            labels = self.metrics.labels.get(name, {})
            known = set(labels) | ADDED | NOT_CAUSED.get(name, set())
            allowed |= known
            for label, (operator, value) in matchers.items():
                self.assertIn(label, known, f"{name} has no such label")
                if label in ADDED:
                    continue
                for one in value.split("|") if "~" in operator or "Re" in operator else [value]:
                    self.assertIn(one, labels[label], f"{name} never has this {label}")
        self.assertLessEqual(grouped, allowed, "it groups by a label that is not there")

    def test_every_metric_and_label_of_the_alerts_exists(self):
        for rule in rules():
            with self.subTest(rule["alert"], expression=rule["expr"]):
                self.check(rule["expr"])

    def test_every_metric_and_label_of_the_dashboard_exists(self):
        for title, expression in queries():
            with self.subTest(title, expression=expression):
                self.check(expression)

    def test_the_check_detects_mistakes(self):
        for expression in (
            "presence_hub_connectoins",
            'presence_hub_closes_total{cod="1006"}',
            'presence_hub_logins_total{kind="logn"}',
            "sum by (kind) (presence_hub_kicks_total)",
            "presence_hub_store_commit_seconds",
        ):
            with self.subTest(expression), self.assertRaises(AssertionError):
                self.check(expression)

    def test_the_dashboard_shows_every_metric(self):
        shown = {name for _, expression in queries() for name, _ in parts(expression)[0]}
        families = {re.sub("_(bucket|sum|count)$", "", name) for name in self.metrics.labels}
        shown = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
        self.assertEqual(families - shown, set())


class Files(unittest.TestCase):
    def test_each_rule_says_what_it_means_and_what_to_do(self):
        names = [rule["alert"] for rule in rules()]
        self.assertEqual(len(names), len(set(names)))
        for rule in rules():
            with self.subTest(rule["alert"]):
                self.assertEqual(set(rule["annotations"]), {"summary", "description", "runbook"})
                self.assertIn(rule["labels"]["severity"], ("page", "ticket"))
                self.assertIn('job="presence-hub"', rule["expr"])

    def test_the_panels_of_the_dashboard_do_not_overlap(self):
        dashboard = json.loads(DASHBOARD.read_text())
        panels = dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        cells = set()
        for panel in panels:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), cells, panel["title"])
                    cells.add((x, y))
            if panel["type"] != "row":
                self.assertTrue(panel["description"].endswith("."), panel["title"])

    @needs("promtool")
    def test_promtool_accepts_the_rules(self):
        run("promtool", "check", "rules", ALERTS)

    @needs("promtool")
    def test_alerts_fire_when_they_should(self):
        run("promtool", "test", "rules", pathlib.Path(__file__).with_name("alerts_test.yaml"))


@needs("prometheus")
class WithPrometheus(unittest.TestCase):
    def test_prometheus_evaluates_every_expression(self):
        """With the configuration of the production guide, but for how often it scrapes."""
        start_hub(self, {"server.metrics_listen": "127.0.0.1:7802"})
        directory = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        guide = (DEPLOY / "README.md").read_text()
        example = re.search(r"```yaml\n# /etc/prometheus/prometheus.yml\n(.*?)```", guide, re.S)[1]
        (directory / "prometheus.yml").write_text("global: {scrape_interval: 1s, evaluation_interval: 1s}\n" + example)
        (directory / "presence-hub-alerts.yaml").write_text(ALERTS.read_text())
        prometheus = Program(
            *("prometheus", "--config.file", directory / "prometheus.yml"),
            *("--storage.tsdb.path", directory / "data", "--web.listen-address", "127.0.0.1:9090"),
        )
        self.addCleanup(prometheus.stop)

        def ask(path):
            return json.loads(call(f"http://127.0.0.1:9090/api/v1/{path}")[2])["data"]

        prometheus.until(lambda: answers("http://127.0.0.1:9090/-/ready"), "Prometheus is ready")
        asked = "query?query=count(presence_hub_connections)"
        prometheus.until(lambda: ask(asked)["result"], "Prometheus has read the hub's metrics")
        loaded = until(lambda: evaluated(ask("rules")["groups"]), "every rule was evaluated")
        self.assertEqual({rule["name"] for rule in loaded}, {rule["alert"] for rule in rules()})
        self.assertEqual([rule for rule in loaded if rule["health"] != "ok"], [])
        self.assertEqual([rule["name"] for rule in loaded if rule["state"] != "inactive"], [], "all is well here")
        for title, expression in queries():
            with self.subTest(title):
                status, _, text = call("http://127.0.0.1:9090/api/v1/query", f"query={quoted(expression)}".encode())
                self.assertEqual(status, 200, text)


def evaluated(groups):
    found = [rule for group in groups for rule in group["rules"]]
    return found if all(rule["health"] != "unknown" for rule in found) else []


def quoted(text):
    return "".join(f"%{byte:02x}" for byte in text.encode())


class Scope:
    """Ends what `start_hub` starts when the stack ends, as a test case does."""

    def __init__(self, stack):
        self.enterContext, self.addCleanup = stack.enter_context, stack.callback


def scrape():
    return call("http://127.0.0.1:7800/metrics")[2]


def busy_hub():
    """The metrics of a hub with TLS, to which all that the rules look for has happened, and of one with Redis."""
    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        make_certificate()
        receiver = Receiver(Scope(stack))
        settings = {
            "server.listen": "127.0.0.1:7843",
            "server.plain_listen": "127.0.0.1:7800",
            "server.tls_certificate": str(CERTIFICATE),
            "server.tls_key": str(CERTIFICATE_KEY),
            "webhook.url": f"http://127.0.0.1:{receiver.port}/",
            "webhook.secrets": '["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]',
            "limits.connections_per_address_per_second": "1",
            "limits.connection_burst": "3",
        }
        start_hub(Scope(stack), settings)
        make_things_happen()
        accepted = 'presence_hub_webhook_requests_total{result="accepted"}'
        until(lambda: accepted in scrape(), "the webhook has its answer")
        metrics.read(scrape())
    if "redis-server" not in WITHOUT:
        with contextlib.ExitStack() as stack:
            start_redis(Scope(stack))
            start_hub(Scope(stack), {"store.kind": "redis", "store.redis_url": "redis://127.0.0.1:6379"})
            metrics.read(scrape())
    return metrics


def start_redis(case):
    directory = case.enterContext(tempfile.TemporaryDirectory())
    redis = Program("redis-server", "--bind", "127.0.0.1", "--dir", directory, "--save", "")
    case.addCleanup(redis.stop)
    redis.until(lambda: "Ready to accept connections" in redis.log(), "Redis is ready")


def make_things_happen():
    """Logins, a kick, and each kind of refusal."""
    url = "ws://127.0.0.1:7800/ws"
    from_here = {"url": url, "source": "127.0.0.1"}
    issued = int(time.time()) - 60
    with client(**from_here) as (ann, _):
        assert "ok" in ann.login("ann", "web", issued)
        key = {"Authorization": f"Bearer {API_KEY}"}
        assert call("http://127.0.0.1:7800/v1/users/ann/kick", b'{"all": true}', key)[0] == 200
    refused = [
        (token("ann", issued), "token_revoked"),
        (token("bob", 1, lives=-3600), "token_expired"),
        (token("bob")[:-4] + "AAAA", "invalid_token"),
    ]
    for wrong, code in refused:
        with client(**from_here) as (bob, connection):
            login = {"type": "login", "id": 1, "platform": "web", "device": "d", "token": wrong}
            connection.send(json.dumps(login))
            assert bob.hear()["error"]["code"] == code
    for headers in [{"Origin": "https://elsewhere.example"}, *[{"X-Forwarded-For": "198.51.100.9"}] * 6]:
        with contextlib.suppress(InvalidStatus), client(**from_here, headers=headers):
            pass


if __name__ == "__main__":
    unittest.main()
