{{- define "backups.fullname" -}}
{{ .Release.Name }}-backups
{{- end }}

{{- define "backups.selectorLabels" -}}
app.kubernetes.io/name: backups
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: backups
{{- end }}

{{- define "backups.labels" -}}
{{ include "backups.selectorLabels" . }}
app.kubernetes.io/part-of: xwiki-stack
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "backups.serviceAccountName" -}}
{{ include "backups.fullname" . }}
{{- end }}
