{{- define "netpol.fullname" -}}
{{ .Release.Name }}-netpol
{{- end }}

{{- define "netpol.labels" -}}
app.kubernetes.io/name: netpol
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: netpol
app.kubernetes.io/part-of: xwiki-stack
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}
