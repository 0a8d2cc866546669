{{- define "xwiki.fullname" -}}
{{ .Release.Name }}-xwiki
{{- end }}

{{- define "xwiki.selectorLabels" -}}
app.kubernetes.io/name: xwiki
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: xwiki
{{- end }}

{{- define "xwiki.labels" -}}
{{ include "xwiki.selectorLabels" . }}
app.kubernetes.io/part-of: xwiki-stack
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "xwiki.serviceAccountName" -}}
{{ include "xwiki.fullname" . }}
{{- end }}
