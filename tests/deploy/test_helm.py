"""The Helm chart: rendered by Helm's own library, and validated against the schemas of two versions of Kubernetes."""

import json
import pathlib
import re
import shlex
import shutil
import tempfile
import tomllib
import unittest

import helm_python
import kubernetes_validate
import yaml

from hub import BINARY
from machine import DEPLOY, needs, run, variables

CHART = DEPLOY / "helm" / "presence-hub"
# The oldest version that the chart supports, and the newest one with schemas.
KUBERNETES = ("1.30", "1.37")
# Custom resources, which those schemas do not have. custom-resources.mjs validates them.
CUSTOM = ("HTTPRoute", "ServiceMonitor", "PrometheusRule")

BASE = {"existingSecret": "hub-secret"}
PROXIES = {"config": {"server": {"trusted_proxies": ["10.244.0.0/16"], "allowed_origins": ["https://app.example.com"]}}}
INGRESS = {"ingress": {"enabled": True, "className": "nginx", "host": "hub.example.com", "tlsSecret": "hub-tls"}}
ROUTE = {"httpRoute": {"enabled": True, "gateways": [{"name": "public"}], "hosts": ["hub.example.com"]}}
EVERYTHING = {
    **BASE,
    **INGRESS,
    **ROUTE,
    "config": {
        **PROXIES["config"],
        "limits": {"subscriptions": 500, "slow_consumer": "20s"},
        "login": {"policy": "multi", "max_instances": {"web": 3}},
        "webhook": {"url": "https://app.example.com/hook"},
    },
    "image": {"repository": "registry.example.com/presence-hub", "tag": "1.2.3"},
    "imagePullSecrets": [{"name": "registry"}],
    "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
    "persistence": {"storageClass": "fast"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {
        "clients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}],
        "backends": [{"podSelector": {"matchLabels": {"app": "back-end"}}}],
        "monitoring": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "restrictEgress": True,
        "egressTo": [{"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}], "ports": [{"port": 6379}]}],
    },
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "chat"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "hubs", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "serviceAccount": {"annotations": {"a": "b"}},
}
SETS = {
    "single, defaults": BASE,
    "several, defaults": {**BASE, "mode": "several"},
    "single, everything": EVERYTHING,
    "several, everything": {**EVERYTHING, "mode": "several"},
    "several, fixed": {**BASE, "mode": "several", "autoscaling": {"enabled": False}, "serviceAccount": {"name": "own"}},
}


def setUpModule():
    """Copies the chart with the file that its link leads to, which Helm would report each time."""
    global COPY
    directory = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(directory.cleanup)
    COPY = shutil.copytree(CHART, pathlib.Path(directory.name, "presence-hub"))


def render(values):
    """The manifests as {kind: [manifest, …]}, and the names of the templates that made them."""
    with helm_python.Chart.load(str(COPY)) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="hub", namespace="chat")
    found, templates = {}, set()
    for name, text in files.items():
        for document in yaml.safe_load_all(text) if name.endswith(".yaml") else []:
            if document:
                templates.add(name.split("/")[-1])
                found.setdefault(document["kind"], []).append(document)
    return found, templates


def manifests(values):
    return render(values)[0]


def one(found, kind):
    assert len(found.get(kind, [])) == 1, f"{kind}: {len(found.get(kind, []))}"
    return found[kind][0]


def workload(found):
    return one(found, "StatefulSet" if "StatefulSet" in found else "Deployment")


def pod(found):
    return workload(found)["spec"]["template"]


def container(found):
    (only,) = pod(found)["spec"]["containers"]
    return only


class Rendered(unittest.TestCase):
    def test_helm_finds_nothing_to_complain_about(self):
        report = helm_python.lint(str(CHART), BASE)
        self.assertEqual([f for f in report["messages"] if f["severity"] > 1], [], report)

    def test_each_manifest_is_valid_in_each_version_of_kubernetes(self):
        made = set()
        for name, values in SETS.items():
            found, templates = render(values)
            made |= templates
            for manifest in [m for kind in found.values() for m in kind]:
                if manifest["kind"] in CUSTOM:
                    continue
                for version in KUBERNETES:
                    with self.subTest(values=name, kind=manifest["kind"], kubernetes=version):
                        kubernetes_validate.validate(manifest, version, strict=True)
        every = {path.name for path in (CHART / "templates").glob("*.yaml")}
        self.assertEqual(made, every, "every template is rendered")

    def test_the_validation_detects_mistakes(self):
        manifest = workload(manifests(BASE))
        manifest["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"] = {"slep": {"seconds": 5}}
        for version in KUBERNETES:
            with self.assertRaises(kubernetes_validate.ValidationError):
                kubernetes_validate.validate(manifest, version, strict=True)

    @needs("node")
    def test_each_custom_resource_is_valid(self):
        validator = pathlib.Path(__file__).with_name("custom-resources.mjs")
        found = manifests(EVERYTHING)
        resources = [one(found, kind) for kind in CUSTOM]
        run("node", validator, input=json.dumps(resources))
        one(found, "HTTPRoute")["spec"]["rules"][0]["backendRefs"][0]["port"] = "http"
        with self.assertRaisesRegex(AssertionError, "port must be integer"):
            run("node", validator, input=json.dumps(resources))

    def test_names_are_unique_and_labels_match(self):
        for values in SETS.values():
            found = manifests(values)
            every = [(m["kind"], m["metadata"]["name"]) for kind in found.values() for m in kind]
            self.assertEqual(len(every), len(set(every)))
            labels = pod(found)["metadata"]["labels"]
            selectors = [workload(found)["spec"]["selector"]["matchLabels"]]
            selectors += [service["spec"]["selector"] for service in found["Service"]]
            selectors += [found["NetworkPolicy"][0]["spec"]["podSelector"]["matchLabels"]]
            selectors += [pdb["spec"]["selector"]["matchLabels"] for pdb in found.get("PodDisruptionBudget", [])]
            for selector in selectors:
                self.assertLessEqual(selector.items(), labels.items())
            for monitor in found.get("ServiceMonitor", []):
                wanted = monitor["spec"]["selector"]["matchLabels"].items()
                chosen = [s for s in found["Service"] if wanted <= s["metadata"]["labels"].items()]
                self.assertEqual([s["metadata"]["name"] for s in chosen], ["hub-presence-hub-metrics"])
                (endpoint,) = monitor["spec"]["endpoints"]
                self.assertIn(endpoint["port"], [port["name"] for port in chosen[0]["spec"]["ports"]])
                label = monitor["spec"]["jobLabel"]
                self.assertEqual(chosen[0]["metadata"]["labels"][label], "presence-hub", "the job of the alerts")

    def test_ports_lead_to_the_container(self):
        for values in SETS.values():
            found = manifests(values)
            names = {port["name"] for port in container(found)["ports"]}
            services = {service["metadata"]["name"]: service["spec"]["ports"] for service in found["Service"]}
            for ports in services.values():
                self.assertLessEqual({port["targetPort"] for port in ports}, names)
            for rule in found["NetworkPolicy"][0]["spec"]["ingress"]:
                self.assertLessEqual({port["port"] for port in rule["ports"]}, names)
            for ingress in found.get("Ingress", []):
                backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
                self.assertIn(backend["port"]["name"], [port["name"] for port in services[backend["name"]]])
            for route in found.get("HTTPRoute", []):
                (rule,) = route["spec"]["rules"]
                self.assertNotIn("timeouts", rule)
                (backend,) = rule["backendRefs"]
                self.assertIn(backend["port"], [port["port"] for port in services[backend["name"]]])
                self.assertEqual(route["spec"]["parentRefs"], ROUTE["httpRoute"]["gateways"])


class Behaviour(unittest.TestCase):
    def test_the_hub_accepts_the_configuration(self):
        for name, values in SETS.items():
            with self.subTest(name):
                found = manifests(values)
                text = one(found, "ConfigMap")["data"]["config.toml"]
                config = tomllib.loads(text)
                ports = {port["name"]: port["containerPort"] for port in container(found)["ports"]}
                server = config["server"]
                listening = {"clients": "listen", "admin": "admin_listen", "metrics": "metrics_listen"}
                for port, key in listening.items():
                    self.assertEqual(server[key], f"0.0.0.0:{ports[port]}")
                self.assertTrue(server["production"])
                file = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()), "config.toml")
                file.write_text(text)
                secrets = {"webhook.secrets": '["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]'}
                shown = run(BINARY, "check-config", "--config", file, env=variables(secrets))
                effective = tomllib.loads(shown)
                for section, settings in config.items():
                    for key, value in settings.items():
                        self.assertEqual(effective[section][key], value, f"{section}.{key}")

    def test_a_pod_has_time_to_stop_and_is_taken_out_first(self):
        for values in (BASE, {**BASE, "mode": "several", "drainSeconds": 60, "preStopSleepSeconds": 20}):
            found = manifests(values)
            pause = container(found)["lifecycle"]["preStop"]["sleep"]["seconds"]
            config = tomllib.loads(one(found, "ConfigMap")["data"]["config.toml"])
            drain = int(config["server"]["drain"].removesuffix("s"))
            # And 10 s for the webhook.
            self.assertGreater(pod(found)["spec"]["terminationGracePeriodSeconds"], pause + drain + 10)

    def test_probes_are_apart(self):
        for values in SETS.values():
            hub = container(manifests(values))
            paths = {name: hub[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
            self.assertEqual(paths, {"startup": "/health", "liveness": "/health", "readiness": "/ready"})
            startup = hub["startupProbe"]
            self.assertGreater(startup["failureThreshold"] * startup["periodSeconds"], 30)

    def test_pods_have_no_privileges(self):
        for values in SETS.values():
            spec = pod(manifests(values))["spec"]
            hub = spec["containers"][0]
            self.assertTrue(spec["securityContext"]["runAsNonRoot"])
            self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            own = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
            self.assertEqual(hub["securityContext"], own)
            self.assertFalse(spec["automountServiceAccountToken"])
            self.assertEqual(hub["envFrom"], [{"secretRef": {"name": "hub-secret"}}])

    def test_one_hub_has_a_volume(self):
        found = manifests(BASE)
        (claim,) = one(found, "StatefulSet")["spec"]["volumeClaimTemplates"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container(found)["volumeMounts"]}
        config = tomllib.loads(one(found, "ConfigMap")["data"]["config.toml"])
        self.assertEqual(mounts[claim["metadata"]["name"]], config["store"]["path"])
        self.assertEqual(one(found, "StatefulSet")["spec"]["replicas"], 1)
        for kind in ("Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget"):
            self.assertNotIn(kind, found)

    def test_several_hubs_scale_down_slowly_and_spread(self):
        found = manifests(SETS["several, defaults"])
        config = tomllib.loads(one(found, "ConfigMap")["data"]["config.toml"])
        self.assertEqual(config["store"], {"kind": "redis"})
        scaler = one(found, "HorizontalPodAutoscaler")["spec"]
        self.assertEqual(scaler["scaleTargetRef"]["name"], one(found, "Deployment")["metadata"]["name"])
        self.assertEqual(scaler["metrics"][0]["pods"]["metric"]["name"], "presence_hub_connections")
        down = scaler["behavior"]["scaleDown"]
        self.assertGreaterEqual(down["stabilizationWindowSeconds"], 600)
        self.assertEqual(down["policies"], [{"type": "Pods", "value": 1, "periodSeconds": 300}])
        self.assertNotIn("replicas", one(found, "Deployment")["spec"], "the autoscaler sets it")
        self.assertEqual(one(found, "Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0)
        self.assertEqual(one(found, "PodDisruptionBudget")["spec"]["maxUnavailable"], 1)
        keys = [spread["topologyKey"] for spread in pod(found)["spec"]["topologySpreadConstraints"]]
        self.assertEqual(keys, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"])

    def test_the_alert_rules_are_those_of_the_observability_folder(self):
        rule = one(manifests(EVERYTHING), "PrometheusRule")
        file = DEPLOY / "observability" / "alerts.yaml"
        self.assertEqual(rule["spec"], yaml.safe_load(file.read_text()))

    def test_a_change_of_the_configuration_replaces_the_pods(self):
        def checksum(values):
            return pod(manifests(values))["metadata"]["annotations"]["checksum/config"]

        self.assertNotEqual(checksum(BASE), checksum({**BASE, **PROXIES}))
        self.assertEqual(checksum(BASE), checksum({**BASE, "podLabels": {"a": "b"}}))


class Values(unittest.TestCase):
    def test_wrong_values_are_refused_with_what_to_set(self):
        rows = [
            ({}, "set existingSecret"),
            ({**BASE, **INGRESS}, "set config.server.trusted_proxies"),
            ({**BASE, **ROUTE}, "set config.server.trusted_proxies"),
            ({**BASE, **PROXIES, "ingress": {"enabled": True}}, "set ingress.host"),
            ({**BASE, **PROXIES, "httpRoute": {"enabled": True}}, "set httpRoute.gateways"),
            ({**BASE, "mode": "both"}, "mode"),
            ({**BASE, "replica": 3}, "replica"),
            ({**BASE, "drainSeconds": "10s"}, "drainSeconds"),
        ]
        for values, message in rows:
            with self.subTest(message), self.assertRaisesRegex(helm_python.HelmError, re.escape(message)):
                render(values)

    def test_each_value_is_used_and_each_used_one_exists(self):
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
        templates = templates.replace("$policy.", ".Values.networkPolicy.")
        used = set(re.findall(r"\.Values\.([\w.]+)", templates))
        for path in used:
            part = values
            for name in path.split("."):
                self.assertIn(name, part, path)
                part = part[name]
        for name, value in values.items():
            self.assertTrue(any(path.split(".")[0] == name for path in used), name)
            if isinstance(value, dict) and name not in ("config", "resources"):
                for inner in value:
                    self.assertTrue({name, f"{name}.{inner}"} & used, f"{name}.{inner}")

    def test_the_command_of_the_production_guide_renders(self):
        guide = (DEPLOY / "README.md").read_text()
        command = shlex.split(re.search(r"^helm install (.*?[^\\])$", guide, re.S | re.M)[1], comments=True)
        self.assertEqual(command[:2], ["presence-hub", "deploy/helm/presence-hub"])
        values = {}
        options = [part for part in command[2:] if part.strip()]
        for option, text in zip(options[::2], options[1::2], strict=True):
            if option == "--set-json":
                path, _, value = text.partition("=")
                parsed = yaml.safe_load(value)
                for name in reversed(path.split(".")):
                    parsed = {name: parsed}
            else:
                self.assertEqual(option, "--set")
                parsed = helm_python.parse_set_string(text)
            merge(values, parsed)
        found = manifests(values)
        self.assertEqual(one(found, "Ingress")["spec"]["rules"][0]["host"], "hub.example.com")
        self.assertEqual(container(found)["image"], "registry.example.com/presence-hub:0.1.0")


def merge(into, values):
    for name, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value


if __name__ == "__main__":
    unittest.main()
