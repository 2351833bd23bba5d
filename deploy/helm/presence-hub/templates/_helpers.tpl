{{- define "hub.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "hub.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hub.labels" -}}
{{ include "hub.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "hub.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "hub.name" .) -}}
{{- end }}

{{/* Refuses values with which the hub would not work, before anything reaches the cluster. */}}
{{- define "hub.check" -}}
{{- if not .Values.existingSecret -}}
{{- fail "set existingSecret: the name of a Secret with the hub's secrets and keys (see values.yaml)" -}}
{{- end -}}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (not (dig "server" "trusted_proxies" list .Values.config)) -}}
{{- fail "set config.server.trusted_proxies to the network of your Ingress or Gateway controller: without it all clients count as one address, and share its limit of connections" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "set ingress.host: the host name that clients use" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.gateways) -}}
{{- fail "set httpRoute.gateways: the Gateways that the route belongs to" -}}
{{- end -}}
{{- end }}

{{/*
config.toml: what the chart decides wins over the values. Helm reads every number as a float, and the hub has no setting
that is one.
*/}}
{{- define "hub.config" -}}
{{- $server := dict "production" true "listen" "0.0.0.0:7800" "admin_listen" "0.0.0.0:7801" "metrics_listen" "0.0.0.0:7802" "drain" (printf "%ds" (int .Values.drainSeconds)) -}}
{{- $store := dict "kind" "embedded" "path" "/var/lib/presence-hub" -}}
{{- if eq .Values.mode "several" -}}
{{- $store = dict "kind" "redis" -}}
{{- end -}}
{{- $config := mergeOverwrite (deepCopy .Values.config) (dict "server" $server "store" $store) -}}
{{- regexReplaceAll "(?m)= (-?[0-9]+)\\.0$" (toToml $config) "= ${1}" -}}
{{- end }}

{{/* The pod, the same for both modes but for the volume of the store. */}}
{{- define "hub.pod" -}}
metadata:
  labels:
    {{- include "hub.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "hub.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "hub.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Longer than the longest stop: the pause before SIGTERM, the drain, 10 s for the webhook, and a margin.
  terminationGracePeriodSeconds: {{ add .Values.preStopSleepSeconds .Values.drainSeconds 10 10 }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: hub
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/presence-hub/config.toml]
      envFrom:
        - secretRef:
            name: {{ .Values.existingSecret }}
      ports:
        - {name: clients, containerPort: 7800}
        - {name: admin, containerPort: 7801}
        - {name: metrics, containerPort: 7802}
      # A start may wait 10 s for Redis, and read a large store.
      startupProbe:
        httpGet: {path: /health, port: clients}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 60
      # Only whether the process lives: a hub whose store is away keeps its clients, and must not be restarted for it.
      livenessProbe:
        httpGet: {path: /health, port: clients}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      # Whether new clients may come.
      readinessProbe:
        httpGet: {path: /ready, port: clients}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      lifecycle:
        preStop:
          # The image has no shell.
          sleep:
            seconds: {{ .Values.preStopSleepSeconds }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - {name: config, mountPath: /etc/presence-hub, readOnly: true}
        {{- if eq .Values.mode "single" }}
        - {name: store, mountPath: /var/lib/presence-hub}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "hub.name" . }}
  {{- if eq .Values.mode "several" }}
  {{- with .Values.topologySpread }}
  topologySpreadConstraints:
    {{- range . }}
    - maxSkew: 1
      topologyKey: {{ .topologyKey }}
      whenUnsatisfiable: {{ .whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "hub.selector" $ | nindent 10 }}
      matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
