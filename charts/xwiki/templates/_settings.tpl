{{/* Where the database is; the password comes as a file, never as a variable. */}}
{{- define "xwiki.databaseEnv" -}}
- name: DB_HOST
  value: {{ include "xwiki.databaseHost" . | quote }}
- name: DB_PORT
  value: {{ .Values.database.port | quote }}
- name: DB_DATABASE
  value: {{ .Values.database.name | quote }}
- name: DB_USER
  value: {{ .Values.database.user | quote }}
- name: DB_PASSWORD_FILE
  value: /etc/xwiki-stack/database/password
{{- with .Values.database.jdbcParams }}
- name: JDBC_PARAMS
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* XWiki's own settings as XCONF_<source>_<key>, which beat its files (since 17.5.0). */}}
{{- define "xwiki.settings" -}}
- name: XCONF_xwikicfg_xwiki_superadminpassword
  valueFrom:
    secretKeyRef:
      name: {{ include "xwiki.secret" . }}
      key: superadmin-password
- name: XCONF_xwikicfg_xwiki_authentication_validationKey
  valueFrom:
    secretKeyRef:
      name: {{ include "xwiki.secret" . }}
      key: validation-key
- name: XCONF_xwikicfg_xwiki_authentication_encryptionKey
  valueFrom:
    secretKeyRef:
      name: {{ include "xwiki.secret" . }}
      key: encryption-key
{{- with .Values.home }}
- name: XCONF_xwikicfg_xwiki_home
  value: {{ . | quote }}
- name: XCONF_xwikicfg_xwiki_url_protocol
  value: {{ (urlParse .).scheme | quote }}
{{- end }}
{{- with .Values.mailHost }}
- name: XCONF_xwikiproperties_mail_sender_host
  value: {{ . | quote }}
{{- end }}
{{- if eq .Values.flavor "none" }}
# No wizard for visitors, and nothing asks the internet for extensions.
- name: XCONF_xwikiproperties_distribution_automaticStartOnMainWiki
  value: "false"
- name: XCONF_xwikiproperties_distribution_automaticStartOnWiki
  value: "false"
- name: XCONF_xwikiproperties_extension_repositories
  value: ""
{{- else }}
# XWiki installs the flavor by itself once it is up, and asks nobody.
- name: XCONF_xwikiproperties_distribution_job_interactive
  value: "false"
- name: XCONF_xwikiproperties_distribution_job_interactive_wiki
  value: "false"
- name: XCONF_xwikiproperties_distribution_defaultUI
  value: org.xwiki.platform:xwiki-platform-distribution-flavor-mainwiki
{{- if eq .Values.flavor "xip" }}
- name: XCONF_xwikiproperties_extension_repositories
  value: ""
{{- end }}
{{- end }}
{{- if eq .Values.attachments.store "s3" }}
- name: XCONF_xwikiproperties_store_blobStoreType
  value: s3
- name: XCONF_xwikiproperties_store_s3_bucketName
  value: {{ .Values.attachments.s3.bucket | quote }}
{{- with .Values.attachments.s3.region }}
- name: XCONF_xwikiproperties_store_s3_region
  value: {{ . | quote }}
{{- end }}
{{- with .Values.attachments.s3.endpoint }}
- name: XCONF_xwikiproperties_store_s3_endpoint
  value: {{ . | quote }}
{{- end }}
- name: XCONF_xwikiproperties_store_s3_pathStyleAccess
  value: {{ .Values.attachments.s3.pathStyle | quote }}
{{- with .Values.attachments.s3.keyPrefix }}
- name: XCONF_xwikiproperties_store_s3_keyPrefix
  value: {{ . | quote }}
{{- end }}
- name: XCONF_xwikiproperties_store_s3_accessKey
  valueFrom:
    secretKeyRef:
      name: {{ .Values.attachments.s3.existingSecret }}
      key: access-key
- name: XCONF_xwikiproperties_store_s3_secretKey
  valueFrom:
    secretKeyRef:
      name: {{ .Values.attachments.s3.existingSecret }}
      key: secret-key
{{- end }}
{{- end }}
