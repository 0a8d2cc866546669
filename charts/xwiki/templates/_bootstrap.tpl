{{/* The Job's pod; the Job carries the hash of it in its name, since a Job cannot change. */}}
{{- define "xwiki.bootstrapPod" -}}
metadata:
  labels:
    app.kubernetes.io/name: xwiki
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/component: xwiki-bootstrap
  annotations:
    checksum/script: {{ .Files.Get "files/bootstrap.sh" | sha256sum }}
spec:
  restartPolicy: Never
  {{- include "xwiki.podSecurity" . | nindent 2 }}
  containers:
    - name: bootstrap
      {{- include "xwiki.image" . | nindent 6 }}
      command: ["bash", "/etc/xwiki-stack/bootstrap/bootstrap.sh"]
      env:
        - name: XWIKI_URL
          value: http://{{ include "xwiki.fullname" . }}:{{ .Values.service.port }}
        - name: ADMIN_USERNAME
          value: {{ .Values.admin.username | quote }}
        - name: PAGE_TITLE
          value: {{ .Values.bootstrap.title | quote }}
        - name: PAGE_CONTENT
          value: {{ .Values.bootstrap.content | quote }}
      securityContext:
        {{- include "xwiki.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml .Values.initResources | nindent 8 }}
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
