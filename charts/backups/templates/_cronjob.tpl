{{/* A CronJob. Given: root, role (its name, and the verb unless `arguments` says more), schedule, config (key of the
ConfigMap), secret (name), keys (those of it that are read; none where it knows no store), database (key of the
password, empty: none), web (key of the wiki's password, empty: none), files (how XWiki's volume is mounted: ro, rw, empty: not).
minutes: what it may take. beside: a database and a wiki of its own run in the pod. */}}
{{- define "backups.cronjob" -}}
{{- $ := .root }}
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {{ include "backups.fullname" $ }}-{{ .role }}
  labels:
    {{- include "backups.labels" $ | nindent 4 }}
spec:
  schedule: {{ .schedule | quote }}
  timeZone: Etc/UTC
  suspend: {{ .suspend | default false }}
  # The engine's own lock says so as well, to runs by hand.
  concurrencyPolicy: Forbid
  # A start that was missed (no room, no controller) is made up for within the hour.
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 5
  jobTemplate:
    metadata:
      # Not the release's: what a run came to is no part of the release's own health; `backup status` judges it.
      labels:
        app.kubernetes.io/component: backups
        app.kubernetes.io/part-of: xwiki-stack
    spec:
      # The engine retries what may pass by itself; another try of a whole run is the next schedule's.
      backoffLimit: 0
      # The engine ends itself before, with a reason; this is for one that cannot.
      activeDeadlineSeconds: {{ mul 60 (add .minutes 15) }}
      # A pod keeps its logs, and one that brought a volume keeps that as well.
      ttlSecondsAfterFinished: {{ ternary 432000 604800 (not (not .beside)) }}
      template:
        metadata:
          labels:
            {{- include "backups.selectorLabels" $ | nindent 12 }}
            xwiki-stack/role: {{ .role }}
        spec:
          restartPolicy: Never
          {{- include "backups.podCommons" $ | nindent 10 }}
          {{- if or $.Values.affinity (not .beside) }}
          affinity:
            {{- with $.Values.affinity }}
            {{- toYaml . | nindent 12 }}
            {{- else }}
            {{- include "backups.nearWiki" $ | nindent 12 }}
            {{- end }}
          {{- end }}
          {{- if .beside }}
          initContainers:
            {{- include "backups.besideContainers" $ | nindent 12 }}
          {{- end }}
          containers:
            - name: {{ .role }}
              image: "{{ $.Values.image.repository }}:{{ $.Values.image.tag }}"
              imagePullPolicy: {{ $.Values.image.pullPolicy }}
              args: {{ .arguments | toJson }}
              env:
                - name: XWIKI_STACK_BACKUP_CONFIG
                  value: /etc/xwiki-stack/{{ .config }}
              {{- include "backups.containerSecurity" $ | nindent 14 }}
              resources:
                {{- toYaml $.Values.resources | nindent 16 }}
              volumeMounts:
                - name: config
                  mountPath: /etc/xwiki-stack
                  readOnly: true
                {{- if .keys }}
                - name: keys
                  mountPath: /run/secrets/backups
                  readOnly: true
                {{- end }}
                {{- if .database }}
                - name: database
                  mountPath: /run/secrets/database
                  readOnly: true
                {{- end }}
                {{- if .web }}
                - name: web
                  mountPath: /run/secrets/web
                  readOnly: true
                {{- end }}
                {{- if .beside }}
                {{- include "backups.besideMounts" $ | nindent 16 }}
                {{- end }}
                {{- if .files }}
                - name: files
                  mountPath: /usr/local/xwiki/data
                  subPath: data
                  readOnly: {{ eq .files "ro" }}
                {{- end }}
          volumes:
            - name: config
              configMap:
                name: {{ include "backups.fullname" $ }}
            {{- if .keys }}
            - name: keys
              secret:
                secretName: {{ .secret | default (printf "%s-%s" (include "backups.fullname" $) .holder) }}
                defaultMode: 0440
                items:
                  {{- range .keys }}
                  - key: {{ . }}
                    path: {{ . }}
                  {{- end }}
            {{- end }}
            {{- with .database }}
            - name: database
              secret:
                secretName: {{ include "backups.databaseSecret" $ }}
                defaultMode: 0440
                items:
                  - key: {{ . }}
                    path: password
            {{- end }}
            {{- with .web }}
            - name: web
              secret:
                secretName: {{ include "backups.wikiSecret" $ }}
                defaultMode: 0440
                items:
                  - key: {{ . }}
                    path: password
            {{- end }}
            {{- if .files }}
            - name: files
              persistentVolumeClaim:
                claimName: {{ include "backups.claim" $ }}
            {{- end }}
            {{- if .beside }}
            {{- include "backups.besideVolumes" $ | nindent 12 }}
            {{- end }}
{{- end }}
