{{/* What the pod runs and reads; its checksum stands on the pod, so that a change restarts it. */}}
{{- define "xwiki.config" -}}
# -Xmx stands literally: without it the image's entrypoint adds its own. An exhausted heap ends the process, so
# that the kubelet starts a working one instead of keeping a wiki that answers nothing.
JAVA_OPTS: >-
  -Xmx{{ .Values.java.heap }} -XX:+UseG1GC -XX:MaxGCPauseMillis={{ .Values.java.maxGCPauseMillis | int }}
  -XX:MaxMetaspaceSize={{ .Values.java.metaspace }} -XX:ReservedCodeCacheSize={{ .Values.java.codeCache }}
  -XX:+ExitOnOutOfMemoryError{{ range .Values.java.options }} {{ . }}{{ end }}
{{- range tuple "wait-for-database.sh" "copy-configuration.sh" "unpack-flavor.sh" "start.sh" "context.xml" }}
{{ . }}: |
  {{- $.Files.Get (printf "files/%s" .) | nindent 2 }}
{{- end }}
{{- end }}
