{{- define "ipvs-agent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "ipvs-agent.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- /* 52: room for "-cleanup" and what a controller adds. */}}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}
{{- end }}

{{- define "ipvs-agent.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "ipvs-agent.selector" -}}
app.kubernetes.io/name: {{ include "ipvs-agent.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ipvs-agent.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "ipvs-agent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: ipvs-agent
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ipvs-agent.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "ipvs-agent.fullname" .) .Values.serviceAccount.name }}
{{- else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "ipvs-agent.image" -}}
{{- $image := .Values.image }}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{- /* The agent's configuration: the `config` value, and the API server. As YAML. */}}
{{- define "ipvs-agent.config" -}}
{{- $config := deepCopy .Values.config }}
{{- with .Values.k8sServiceHost }}
{{- if $config.apiserver }}
{{- fail "\n\nk8sServiceHost and config.apiserver say the same thing: set one of them.\n" }}
{{- end }}
{{- $host := contains ":" . | ternary (printf "[%s]" .) . }}
{{- $_ := set $config "apiserver" (list (printf "https://%s:%v" $host $.Values.k8sServicePort)) }}
{{- end }}
{{- $route := default "0x2000" $config.routeMark }}
{{- if eq (int64 $route) (int64 (default "0x4000" $config.masqueradeMark)) }}
{{- fail (printf "\n\nconfig.routeMark and config.masqueradeMark are both %s: they must be two bits.\n" $route) }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- /* "host port" of an address of the configuration. */}}
{{- define "ipvs-agent.healthAddress" -}}
{{- default "0.0.0.0:10256" .Values.config.healthAddress }}
{{- end }}
{{- define "ipvs-agent.metricsAddress" -}}
{{- default "127.0.0.1:10249" .Values.config.metricsAddress }}
{{- end }}
{{- define "ipvs-agent.host" -}}
{{- regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" }}
{{- end }}
{{- define "ipvs-agent.port" -}}
{{- regexFind "[0-9]+$" . }}
{{- end }}

{{- define "ipvs-agent.isLoopback" -}}
{{- $host := include "ipvs-agent.host" . }}
{{- if or (hasPrefix "127." $host) (eq "::1" $host) }}true{{ end }}
{{- end }}

{{- /* Ends the installation where Prometheus could not reach what it is told to scrape. */}}
{{- define "ipvs-agent.demandMetrics" -}}
{{- $address := include "ipvs-agent.metricsAddress" . }}
{{- if include "ipvs-agent.isLoopback" $address }}
{{- fail (printf "\n\nMetrics are on %s, where Prometheus does not reach them: set config.metricsAddress to \"0.0.0.0:10249\"\n(or \"[::]:10249\"). They are not encrypted and ask nobody who they are: keep the port from outside the cluster.\n" $address) }}
{{- end }}
{{- end }}

{{- /* A probe of a path: list context, path, values. */}}
{{- define "ipvs-agent.probe" -}}
{{- $address := include "ipvs-agent.healthAddress" (index . 0) }}
{{- $host := include "ipvs-agent.host" $address -}}
httpGet:
  path: {{ index . 1 }}
  port: health
  {{- if not (has $host (list "0.0.0.0" "::" "")) }}
  host: {{ $host | quote }}
  {{- end }}
{{ toYaml (index . 2) }}
{{- end }}

{{- /* What every container of the agent may. */}}
{{- define "ipvs-agent.security" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsUser: 0
capabilities:
  drop: [ALL]
  add: [NET_ADMIN, NET_RAW]
seccompProfile:
  type: RuntimeDefault
{{- end }}
