{{/* The pod, which Deployment and StatefulSet share. */}}
{{- define "pipeline-exporter.pod" -}}
{{- $probe := ternary "probes" "http-metrics" (not (empty .Values.web.config)) -}}
metadata:
  annotations:
    {{- if not .Values.existingConfigMap }}
    # The exporter reloads everything else.
    checksum/state: {{ toYaml .Values.config.state | sha256sum }}
    {{- end }}
    kubectl.kubernetes.io/default-container: pipeline-exporter
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "pipeline-exporter.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  serviceAccountName: {{ include "pipeline-exporter.serviceAccountName" . }}
  automountServiceAccountToken: {{ .Values.automountServiceAccountToken }}
  # Otherwise the Service would set PIPELINE_EXPORTER_PORT and others. The exporter reads its flags from variables with
  # the same prefix.
  enableServiceLinks: false
  # The exporter needs up to 10 s to stop.
  terminationGracePeriodSeconds: 30
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
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
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: pipeline-exporter
      image: {{ include "pipeline-exporter.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        - --config.file=/etc/pipeline-exporter/config.yaml
        - --web.listen-address=:{{ int .Values.port }}
        {{- if .Values.web.config }}
        - --web.config.file=/etc/pipeline-exporter-web/web-config.yml
        - --web.probe-listen-address=:{{ int .Values.web.probePort }}
        {{- end }}
        {{- if .Values.web.enableLifecycle }}
        - --web.enable-lifecycle
        {{- end }}
        {{- if .Values.web.pollToken }}
        - --web.poll-token-file=/run/secrets/poll/token
        {{- end }}
        {{- if .Values.sharding.enabled }}
        # The number of replicas. Each pod takes its index from its name.
        - --shard.total={{ int .Values.sharding.shards }}
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnv }}
      env:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http-metrics
          containerPort: {{ int .Values.port }}
          protocol: TCP
        {{- if .Values.web.config }}
        - name: probes
          containerPort: {{ int .Values.web.probePort }}
          protocol: TCP
        {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      startupProbe:
        httpGet:
          path: /-/healthy
          port: {{ $probe }}
        {{- toYaml .Values.startupProbe | nindent 8 }}
      livenessProbe:
        httpGet:
          path: /-/healthy
          port: {{ $probe }}
        {{- toYaml .Values.livenessProbe | nindent 8 }}
      readinessProbe:
        httpGet:
          path: /-/ready
          port: {{ $probe }}
        {{- toYaml .Values.readinessProbe | nindent 8 }}
      # Whole directories: a file mounted with subPath is never updated.
      volumeMounts:
        - name: config
          mountPath: /etc/pipeline-exporter
          readOnly: true
        - name: state
          mountPath: /var/lib/pipeline-exporter
        {{- range $index, $name := .Values.secrets }}
        - name: secret-{{ $index }}
          mountPath: /run/secrets/{{ $name }}
          readOnly: true
        {{- end }}
        {{- if .Values.web.config }}
        - name: web-config
          mountPath: /etc/pipeline-exporter-web
          readOnly: true
        {{- end }}
        {{- if .Values.web.pollToken }}
        - name: poll
          mountPath: /run/secrets/poll
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ default (include "pipeline-exporter.fullname" .) .Values.existingConfigMap }}
    {{- if not .Values.state.enabled }}
    # Survives a restart of the container, but not of the pod.
    - name: state
      emptyDir: {}
    {{- else if not .Values.sharding.enabled }}
    - name: state
      persistentVolumeClaim:
        claimName: {{ default (printf "%s-state" (include "pipeline-exporter.fullname" .)) .Values.state.existingClaim }}
    {{- end }}
    {{- range $index, $name := .Values.secrets }}
    - name: secret-{{ $index }}
      secret:
        secretName: {{ $name }}
        # 0440 in decimal. The group is fsGroup.
        defaultMode: 288
    {{- end }}
    {{- if .Values.web.config }}
    - name: web-config
      secret:
        secretName: {{ .Values.web.config }}
        defaultMode: 288
    {{- end }}
    {{- if .Values.web.pollToken }}
    - name: poll
      secret:
        secretName: {{ .Values.web.pollToken }}
        defaultMode: 288
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* What a claim asks for. */}}
{{- define "pipeline-exporter.claim" -}}
accessModes:
  - ReadWriteOnce
{{- with .Values.state.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .Values.state.size }}
{{- end }}
