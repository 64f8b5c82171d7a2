{{- define "rollcall.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: worker
{{- end -}}

{{- define "rollcall.labels" -}}
{{ include "rollcall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "rollcall.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "rollcall.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The settings of the pool that setup and workers must agree on. Setup calls no service, but a
setting of one, in settings or in a Secret, is a fault where no service has that name. */}}
{{- define "rollcall.pool" -}}
- name: NATS_URL
  value: {{ join "," .Values.nats.urls | quote }}
- name: ROLLCALL_POOL
  value: {{ .Values.pool.name | quote }}
- name: ROLLCALL_SUBJECTS
  value: {{ join "," .Values.pool.subjects | quote }}
- name: ROLLCALL_STREAM
  value: {{ .Values.pool.stream | quote }}
{{- $services := list }}
{{- range .Values.services }}
{{- $services = append $services (printf "%s=%s" .name .url) }}
{{- end }}
- name: ROLLCALL_SERVICES
  value: {{ join "," $services | quote }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* How setup makes the streams. Workers know it too, so that `worker setup` and `worker doctor` in
their pods mean the same. */}}
{{- define "rollcall.streams" -}}
- name: ROLLCALL_REPLICAS
  value: {{ .Values.setup.streamReplicas | quote }}
{{- range $name, $bytes := dict "STREAM" .Values.setup.streamBytes "DONE" .Values.setup.doneBytes "DEAD" .Values.setup.deadBytes }}
{{- with $bytes }}
- name: ROLLCALL_{{ $name }}_BYTES
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The settings of a worker. */}}
{{- define "rollcall.env" -}}
{{ include "rollcall.pool" . }}
{{- if .Values.setup.enabled }}
{{ include "rollcall.streams" . }}
{{- end }}
{{- range $service := .Values.services }}
{{- range $key, $value := get $service "settings" | default dict }}
- name: {{ printf "ROLLCALL_SVC_%s_%s" ($service.name | upper | replace "-" "_") $key }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
- name: ROLLCALL_ENSURE
  value: "false"
- name: ROLLCALL_HTTP_ADDR
  value: {{ printf ":%v" .Values.port | quote }}
{{- if .Values.pagePort }}
- name: ROLLCALL_PAGE_ADDR
  value: {{ printf ":%v" .Values.pagePort | quote }}
{{- end }}
- name: ROLLCALL_DRAIN_TIMEOUT
  value: {{ printf "%vs" .Values.drainSeconds | quote }}
- name: GOMEMLIMIT
  value: {{ .Values.goMemLimit | quote }}
{{- end -}}

{{- define "rollcall.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rollcall.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Image and hardening, the same for every container. */}}
{{- define "rollcall.container" -}}
image: {{ include "rollcall.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- include "rollcall.containerSecurity" . | nindent 2 }}
{{- if .Values.existingSecretFiles }}
volumeMounts:
  - name: files
    mountPath: /etc/rollcall
    readOnly: true
{{- end }}
{{- end -}}

{{/* What every pod has besides its containers. */}}
{{- define "rollcall.pod" -}}
automountServiceAccountToken: false
# A Service that is called rollcall would otherwise set ROLLCALL_* variables.
enableServiceLinks: false
securityContext:
  {{- include "rollcall.podSecurity" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.existingSecretFiles }}
volumes:
  - name: files
    secret:
      secretName: {{ .Values.existingSecretFiles }}
      defaultMode: 0440
{{- end }}
{{- end -}}
