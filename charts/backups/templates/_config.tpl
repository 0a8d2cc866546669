{{/* The engine's configuration (scripts/xwiki_stack/backup/config.schema.json). Given (root, role): who restores
logs in as the application, whose account may create the schemas, and holds the key that opens sets. */}}
{{- define "backups.engine" -}}
{{- $ := index . 0 }}
{{- $role := index . 1 }}
{{- $v := $.Values }}
{{- $restores := eq $role "restore" }}
environment: {{ $v.environment | quote }}
purpose: {{ $v.purpose }}
store:
  {{- with $v.store.endpoint }}
  endpoint: {{ . | quote }}
  {{- end }}
  region: {{ $v.store.region | quote }}
  bucket: {{ $v.store.bucket | quote }}
  {{- with $v.store.prefix }}
  prefix: {{ . | quote }}
  {{- end }}
  pathStyle: {{ $v.store.pathStyle }}
  checksums: {{ $v.store.checksums }}
  encryption: {{ $v.store.encryption }}
  accessKeyFile: /run/secrets/backups/access-key
  secretKeyFile: /run/secrets/backups/secret-key
keys:
  recipients: {{ $v.keys.recipients | toJson }}
  trusted: {{ $v.keys.trusted | toJson }}
  {{- if $restores }}
  identityFiles: [/run/secrets/backups/identity]
  {{- else }}
  signingKeyFile: /run/secrets/backups/signing-key
  indexIdentityFile: /run/secrets/backups/index-identity
  {{- end }}
database:
  host: {{ include "backups.databaseHost" $ | quote }}
  port: {{ $v.database.port }}
  user: {{ ternary $v.database.restoreUser $v.database.user $restores | quote }}
  passwordFile: /run/secrets/database/password
  schemas: {{ $v.database.schemas | toJson }}
files:
  root: /usr/local/xwiki/data
limits: {{ $v.limits | toJson }}
retention: {{ $v.retention | toJson }}
rpoHours: {{ $v.rpoHours }}
{{- with $v.host }}
host: {{ . | quote }}
{{- end }}
foreignHosts: {{ $v.foreignHosts | toJson }}
{{- end }}
