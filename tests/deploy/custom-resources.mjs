// Validates custom resources of Kubernetes, a JSON array on standard input, against the schemas of their projects.

import { text } from 'node:stream/consumers';
import { HTTPRoute } from '@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1';
import { PrometheusRule, ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1';

const models = { HTTPRoute, PrometheusRule, ServiceMonitor };

for (const manifest of JSON.parse(await text(process.stdin))) new models[manifest.kind](manifest).validate();
