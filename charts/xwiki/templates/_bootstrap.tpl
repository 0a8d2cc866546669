{{/* The Job's spec; its hash stands in the Job's name, since a Job cannot change. */}}
{{- define "xwiki.bootstrapSpec" -}}
# The script waits by itself, an hour at most for a flavor to come; retries are for accidents.
backoffLimit: 6
activeDeadlineSeconds: 3600
template:
  metadata:
    labels:
      app.kubernetes.io/name: xwiki
      app.kubernetes.io/instance: {{ .Release.Name }}
      app.kubernetes.io/component: xwiki-bootstrap
    annotations:
      checksum/script: {{ .Files.Get "files/bootstrap.sh" | sha256sum }}
      xwiki-stack/secret-revision: {{ .Values.secretRevision | quote }}
  spec:
    restartPolicy: Never
    {{- include "xwiki.podCommons" . | nindent 4 }}
    containers:
      - name: bootstrap
        {{- include "xwiki.image" . | nindent 8 }}
        command: ["bash", "/etc/xwiki-stack/bootstrap/bootstrap.sh"]
        env:
          - name: XWIKI_URL
            value: http://{{ include "xwiki.fullname" . }}:{{ .Values.service.port }}
          - name: FLAVOR
            value: {{ .Values.flavor }}
          - name: ADMIN_USERNAME
            value: {{ .Values.admin.username | quote }}
          - name: PAGE_TITLE
            value: {{ .Values.bootstrap.title | quote }}
          - name: PAGE_CONTENT
            value: {{ .Values.bootstrap.content | quote }}
        {{- include "xwiki.initContainer" . | nindent 8 }}
        volumeMounts:
          - name: script
            mountPath: /etc/xwiki-stack/bootstrap
            readOnly: true
          - name: secret
            mountPath: /etc/xwiki-stack/secret
            readOnly: true
          - name: memory
            mountPath: /tmp
    volumes:
      - name: script
        configMap:
          name: {{ include "xwiki.fullname" . }}-bootstrap
      - name: secret
        secret:
          secretName: {{ include "xwiki.secret" . }}
          defaultMode: 0440
          items:
            - key: superadmin-password
              path: superadmin-password
            - key: admin-password
              path: admin-password
      # Passwords pass through files here, so it is memory.
      - name: memory
        emptyDir:
          medium: Memory
          sizeLimit: 8Mi
{{- end }}
