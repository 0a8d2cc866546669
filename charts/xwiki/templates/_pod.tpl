{{/* What every pod of this chart has in common: its rights, and where it may run. */}}
{{- define "xwiki.podCommons" -}}
serviceAccountName: {{ include "xwiki.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  # Any uid does: nothing of the image belongs to it but what is mounted.
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  # A volume full of attachments is not walked at every start when its root already fits.
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "xwiki.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
{{- end }}

{{- define "xwiki.image" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{/* What the containers before the wiki have in common; they are small and short-lived. */}}
{{- define "xwiki.initContainer" -}}
{{ include "xwiki.containerSecurity" . }}
resources:
  {{- toYaml .Values.initResources | nindent 2 }}
{{- end }}

{{- define "xwiki.configMount" -}}
- name: config
  mountPath: /etc/xwiki-stack/config
  readOnly: true
{{- end }}

{{- define "xwiki.databaseSecretMount" -}}
- name: database-secret
  mountPath: /etc/xwiki-stack/database
  readOnly: true
{{- end }}
