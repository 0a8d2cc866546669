{{/* What the pod runs and reads; its checksum stands on the pod, so that a change restarts it. */}}
{{- define "xwiki.config" -}}
# -Xmx stands literally: without it the image's entrypoint adds its own.
JAVA_OPTS: >-
  -Xmx{{ .Values.java.heap }} -XX:+UseG1GC -XX:MaxGCPauseMillis={{ .Values.java.maxGCPauseMillis | int }}
  -XX:MaxMetaspaceSize={{ .Values.java.metaspace }} -XX:ReservedCodeCacheSize={{ .Values.java.codeCache }}
  -XX:+ExitOnOutOfMemoryError{{ range .Values.java.options }} {{ . }}{{ end }}
start.sh: |
  {{- .Files.Get "files/start.sh" | nindent 2 }}
wait-for-database.sh: |
  {{- .Files.Get "files/wait-for-database.sh" | nindent 2 }}
context.xml: |
  {{- .Files.Get "files/context.xml" | nindent 2 }}
{{- end }}
