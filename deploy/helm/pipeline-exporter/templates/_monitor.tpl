{{/* The endpoint of a PodMonitor or ServiceMonitor; `monitor` has its values. */}}
{{- define "pipeline-exporter.endpoint" -}}
port: http-metrics
interval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
scheme: {{ .monitor.scheme }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
relabelings:
  # The alerts refer to this job.
  - targetLabel: job
    replacement: pipeline-exporter
  # A name that outlives the pod: otherwise counters would begin again with each pod.
  {{- if .root.Values.sharding.enabled }}
  - sourceLabels: [__meta_kubernetes_pod_name]
    targetLabel: instance
  {{- else }}
  - targetLabel: instance
    replacement: {{ include "pipeline-exporter.fullname" .root }}
  {{- end }}
  - action: labeldrop
    regex: pod
  {{- with .monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
