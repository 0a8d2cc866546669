{{/* The one place that names what lies outside this chart. */}}
{{- define "backups.databaseHost" -}}
{{ .Values.database.host | default (printf "%s-mysql" .Release.Name) }}
{{- end }}

{{- define "backups.databaseSecret" -}}
{{ .Values.database.existingSecret | default (printf "%s-mysql" .Release.Name) }}
{{- end }}

{{- define "backups.claim" -}}
{{ .Values.files.claim | default (printf "%s-xwiki-data" .Release.Name) }}
{{- end }}

{{- define "backups.wikiUrl" -}}
{{ .Values.web.url | default (printf "http://%s-xwiki:%d" .Release.Name (int .Values.web.port)) }}
{{- end }}

{{- define "backups.wikiSecret" -}}
{{ .Values.web.existingSecret | default (printf "%s-xwiki" .Release.Name) }}
{{- end }}

{{/* The ConfigMaps by which the release's own wiki and server start: a drill starts its own by them. */}}
{{- define "backups.wikiConfig" -}}
{{ .Release.Name }}-xwiki
{{- end }}

{{- define "backups.databaseConfig" -}}
{{ .Release.Name }}-mysql
{{- end }}

{{/* Beside the wiki, whose volume only one node may have mounted; anywhere while it is stopped. */}}
{{- define "backups.nearWiki" -}}
podAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            app.kubernetes.io/instance: {{ .Release.Name }}
            app.kubernetes.io/component: xwiki
{{- end }}
