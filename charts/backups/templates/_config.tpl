{{/* The engine's configuration (scripts/xwiki_stack/backup/config.schema.json). Given (root, role): who restores
logs in as the application, whose account may create the schemas, and holds the key that opens sets. A drill does so
as well, but into the database beside it, and looks at the wiki beside it. Who restores from another environment finds
its sets where the drill finds them. The exporter knows the store and whose
signatures count, no more. */}}
{{- define "backups.engine" -}}
{{- $ := index . 0 }}
{{- $role := index . 1 }}
{{- $v := $.Values }}
{{- $drills := eq $role "drill" }}
{{- $elsewhere := eq $role "restore-from" }}
{{- $restores := or $drills $elsewhere (eq $role "restore") }}
{{- $source := ternary $v.drill.source dict (or $drills $elsewhere) }}
{{- $tells := eq $role "exporter" }}
environment: {{ $v.environment | quote }}
purpose: {{ $v.purpose }}
store:
  {{- with $v.store.endpoint }}
  endpoint: {{ . | quote }}
  {{- end }}
  region: {{ $v.store.region | quote }}
  bucket: {{ $source.bucket | default $v.store.bucket | quote }}
  {{- with $source.prefix | default $v.store.prefix }}
  prefix: {{ . | quote }}
  {{- end }}
  pathStyle: {{ $v.store.pathStyle }}
  checksums: {{ $v.store.checksums }}
  encryption: {{ $v.store.encryption }}
  {{- with $v.store.kmsKey }}
  kmsKey: {{ . | quote }}
  {{- end }}
  {{- if $v.store.caBundle }}
  caFile: /etc/xwiki-stack/ca.crt
  {{- end }}
  accessKeyFile: /run/secrets/backups/access-key
  secretKeyFile: /run/secrets/backups/secret-key
keys:
  trusted: {{ concat $v.keys.trusted ($source.trusted | default list) | uniq | toJson }}
{{- if not $tells }}
  recipients: {{ $v.keys.recipients | toJson }}
  {{- if $restores }}
  identityFiles: [/run/secrets/backups/identity]
  {{- else }}
  indexIdentityFile: /run/secrets/backups/index-identity
  {{- end }}
  {{- if not (hasPrefix "restore" $role) }}
  signingKeyFile: /run/secrets/backups/signing-key
  {{- end }}
database:
  host: {{ ternary "127.0.0.1" (include "backups.databaseHost" $) $drills | quote }}
  port: {{ $v.database.port }}
  user: {{ ternary $v.database.restoreUser $v.database.user $restores | quote }}
  passwordFile: /run/secrets/database/{{ ternary "xwiki-password" "password" $drills }}
  schemas: {{ $v.database.schemas | toJson }}
files:
  root: /usr/local/xwiki/data
web:
  {{- if $drills }}
  url: http://127.0.0.1:8080
  passwordFile: /run/secrets/database/superadmin-password
  {{- else }}
  url: {{ include "backups.wikiUrl" $ | quote }}
  user: {{ $v.web.user | quote }}
  passwordFile: /run/secrets/web/password
  {{- end }}
limits: {{ $v.limits | toJson }}
retention: {{ $v.retention | toJson }}
xarRetention: {{ $v.xarRetention | toJson }}
rpoHours: {{ $v.rpoHours }}
{{- with $v.host }}
host: {{ . | quote }}
{{- end }}
foreignHosts: {{ $v.foreignHosts | toJson }}
{{- if or $drills $v.drill.maxAgeDays }}
drill:
  rtoHours: {{ $v.rtoHours }}
  {{- with $v.drill.maxAgeDays }}
  maxAgeDays: {{ . }}
  {{- end }}
  {{- if $drills }}
  {{- with $source.environment }}
  source: {{ . }}
  {{- end }}
  {{- with $v.drill.canarySince }}
  canarySince: {{ . | quote }}
  {{- end }}
  marker: /run/drill/restored
  databaseMinutes: {{ $v.drill.databaseMinutes }}
  wikiMinutes: {{ $v.drill.wikiMinutes }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}
