{{- define "pipeline-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 characters: a StatefulSet adds a hash to its name in a label of its pods. */}}
{{- define "pipeline-exporter.fullname" -}}
{{- $name := include "pipeline-exporter.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "pipeline-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "pipeline-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pipeline-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Without the versions: labels of claims cannot change. */}}
{{- define "pipeline-exporter.lastingLabels" -}}
{{ include "pipeline-exporter.selectorLabels" . }}
app.kubernetes.io/component: exporter
app.kubernetes.io/part-of: pipeline-exporter
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "pipeline-exporter.labels" -}}
{{ include "pipeline-exporter.lastingLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Name, namespace and labels of an object; `suffix` of the name and further `labels` are optional. */}}
{{- define "pipeline-exporter.metadata" -}}
name: {{ include "pipeline-exporter.fullname" .root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ include "pipeline-exporter.namespace" .root }}
labels:
  {{- include "pipeline-exporter.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "pipeline-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "pipeline-exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "pipeline-exporter.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end }}{{ .Values.image.repository }}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end }}

{{/* What the schema cannot say, with what to do. */}}
{{- define "pipeline-exporter.check" -}}
{{- if or (hasKey .Values "replicaCount") (hasKey .Values "replicas") (hasKey .Values "autoscaling") }}
{{- fail "replicaCount and autoscaling do not exist: a second exporter with the same pipelines would count every run twice. For several pods set sharding.enabled=true and sharding.shards, which give each pod its own part of the pipelines." }}
{{- end }}
{{- if and .Values.sharding.enabled .Values.state.existingClaim }}
{{- fail "state.existingClaim cannot be used with sharding.enabled: each shard needs a claim of its own. Set state.enabled=true without existingClaim." }}
{{- end }}
{{- if and .Values.state.existingClaim (not .Values.state.enabled) }}
{{- fail "state.existingClaim is set, but state.enabled is false. Set state.enabled=true." }}
{{- end }}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled }}
{{- fail "podMonitor.enabled and serviceMonitor.enabled are both true: each pod would be scraped twice under the same name. Enable one of them; podMonitor is preferred." }}
{{- end }}
{{- if and (not .Values.existingConfigMap) (not .Values.config.projects) }}
{{- fail "config.projects is empty: there is nothing to watch. List a project (docs/configuration.md), or set existingConfigMap." }}
{{- end }}
{{- if and .Values.web.config (eq (int .Values.port) (int .Values.web.probePort)) }}
{{- fail "web.probePort equals port: the probes need a port of their own when web.config is set." }}
{{- end }}
{{- range .Values.extraArgs }}
{{- if regexMatch "^--(shard\\.|config\\.file|web\\.listen-address|web\\.config\\.file|web\\.probe-listen-address|web\\.poll-token-file|web\\.telemetry-path)" . }}
{{- fail (printf "extraArgs has %s, which the chart sets itself. Use the values sharding, config, port and web instead." .) }}
{{- end }}
{{- end }}
{{- end }}
