{{/* The one place that names what lies outside this chart. */}}
{{- define "xwiki.databaseHost" -}}
{{ .Values.database.host | default (printf "%s-mysql" .Release.Name) }}
{{- end }}

{{- define "xwiki.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-mysql" .Release.Name) }}
{{- end }}

{{- define "xwiki.secret" -}}
{{ .Values.auth.existingSecret | default (include "xwiki.fullname" .) }}
{{- end }}

{{- define "xwiki.claim" -}}
{{ .Values.persistence.existingClaim | default (printf "%s-data" (include "xwiki.fullname" .)) }}
{{- end }}
