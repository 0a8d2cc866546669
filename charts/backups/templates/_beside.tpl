{{/* What a drill has beside it in its pod: a database and a wiki, started by the scripts and settings of the release's own.
Both are sidecars, which end with the drill. Neither has probes: a drill that waits in vain says so and leaves a record,
where a kubelet that waits would leave none. */}}
{{- define "backups.besideContainers" -}}
{{- $v := .Values.drill }}
{{- $mysql := printf "%s:%s" $v.mysql.image.repository $v.mysql.image.tag }}
{{- $xwiki := printf "%s:%s" $v.xwiki.image.repository $v.xwiki.image.tag }}
- name: make-passwords
  image: {{ $mysql | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: ["bash", "/etc/xwiki-stack/drill/make-passwords.sh"]
  env:
    - name: FOLDER
      value: /run/secrets/database
  {{- include "backups.containerSecurity" . | nindent 2 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    - name: config
      mountPath: /etc/xwiki-stack/drill
      readOnly: true
    - name: passwords
      mountPath: /run/secrets/database
- name: copy-configuration
  image: {{ $xwiki | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: ["bash", "/etc/xwiki-stack/config/copy-configuration.sh"]
  {{- include "backups.containerSecurity" . | nindent 2 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    - name: wiki-config
      mountPath: /etc/xwiki-stack/config
      readOnly: true
    - name: webinf
      mountPath: /run/xwiki-stack
- name: mysql
  restartPolicy: Always
  image: {{ $mysql | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: ["bash", "/etc/xwiki-stack/config/start.sh"]
  env:
    - name: SCHEMAS
      value: {{ join " " .Values.database.schemas | quote }}
    - name: APPLICATION_USER
      value: {{ .Values.database.restoreUser | quote }}
    - name: BACKUP_USER
      value: drill_backup
    - name: MONITOR_USER
      value: drill_monitor
    - name: PORT
      value: {{ .Values.database.port | quote }}
  {{- include "backups.containerSecurity" . | nindent 2 }}
  resources:
    {{- toYaml $v.mysql.resources | nindent 4 }}
  volumeMounts:
    - name: scratch
      mountPath: /var/lib/mysql
      subPath: mysql
    - name: database-config
      mountPath: /etc/xwiki-stack/config
      readOnly: true
    - name: passwords
      mountPath: /etc/xwiki-stack/secret
      readOnly: true
    - name: memory
      mountPath: /run/xwiki-stack
    - name: socket
      mountPath: /var/run/mysqld
    - name: database-tmp
      mountPath: /tmp
- name: xwiki
  restartPolicy: Always
  image: {{ $xwiki | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: ["bash", "/etc/xwiki-stack/drill/start-when-restored.sh"]
  env:
    - name: MARKER
      value: /run/drill/restored
    - name: SUPERADMIN_PASSWORD_FILE
      value: /run/secrets/database/superadmin-password
    - name: DB_HOST
      value: 127.0.0.1
    - name: DB_PORT
      value: {{ .Values.database.port | quote }}
    - name: DB_DATABASE
      value: {{ first .Values.database.schemas | quote }}
    - name: DB_USER
      value: {{ .Values.database.restoreUser | quote }}
    - name: DB_PASSWORD_FILE
      value: /run/secrets/database/xwiki-password
    - name: JAVA_OPTS
      valueFrom:
        configMapKeyRef:
          name: {{ include "backups.wikiConfig" . }}
          key: JAVA_OPTS
    # Nothing leaves this wiki: it knows whom to write to. Every connection but those within the pod goes to a proxy that
    # does not exist, whatever the restored pages say of mail servers and addresses.
    - name: JAVA_TOOL_OPTIONS
      value: >-
        -DsocksProxyHost=127.0.0.1 -DsocksProxyPort=9 -DsocksNonProxyHosts=localhost|127.*|[::1]
        -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=9 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9
        -Dhttp.nonProxyHosts=localhost|127.*|[::1]
    - name: XCONF_xwikiproperties_mail_sender_host
      value: 127.0.0.1
    - name: XCONF_xwikiproperties_mail_sender_port
      value: "9"
    - name: XCONF_xwikiproperties_distribution_automaticStartOnMainWiki
      value: "false"
    - name: XCONF_xwikiproperties_distribution_automaticStartOnWiki
      value: "false"
    - name: XCONF_xwikiproperties_extension_repositories
      value: ""
    - name: HOME
      value: /tmp
  {{- include "backups.containerSecurity" . | nindent 2 }}
  resources:
    {{- toYaml $v.xwiki.resources | nindent 4 }}
  volumeMounts:
    - name: scratch
      mountPath: /usr/local/xwiki
      subPath: xwiki
    - name: config
      mountPath: /etc/xwiki-stack/drill
      readOnly: true
    - name: drill
      mountPath: /run/drill
      readOnly: true
    - name: passwords
      mountPath: /run/secrets/database
      readOnly: true
    # From here on as the wiki's own Deployment has it; tests/render/test_drill.py compares them.
    - name: wiki-config
      mountPath: /etc/xwiki-stack/config
      readOnly: true
    - name: wiki-config
      mountPath: /usr/local/tomcat/conf/context.xml
      subPath: context.xml
      readOnly: true
    - name: webinf
      mountPath: /run/xwiki-stack/pristine
      subPath: pristine
      readOnly: true
    {{- range tuple "hibernate.cfg.xml" "xwiki.cfg" "xwiki.properties" }}
    - name: webinf
      mountPath: /usr/local/tomcat/webapps/ROOT/WEB-INF/{{ . }}
      subPath: live/{{ . }}
    {{- end }}
    - name: work
      mountPath: /usr/local/tomcat/work
    {{- range $folder, $path := dict "logs" "logs" "temp" "temp" "catalina" "conf/Catalina" }}
    - name: tomcat
      mountPath: /usr/local/tomcat/{{ $path }}
      subPath: {{ $folder }}
    {{- end }}
    - name: tmp
      mountPath: /tmp
{{- end }}

{{/* What the drill itself has of them: the wiki's files, the passwords, and the folder of the sign to start. */}}
{{- define "backups.besideMounts" -}}
- name: scratch
  mountPath: /usr/local/xwiki/data
  subPath: xwiki/data
- name: passwords
  mountPath: /run/secrets/database
  readOnly: true
- name: drill
  mountPath: /run/drill
{{- end }}

{{- define "backups.besideVolumes" -}}
# Database and files, as large as those of the wiki; made with the pod and gone with it.
- name: scratch
  ephemeral:
    volumeClaimTemplate:
      metadata:
        labels:
          {{- include "backups.selectorLabels" . | nindent 10 }}
      spec:
        accessModes: ["ReadWriteOnce"]
        {{- with .Values.drill.volume.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ .Values.drill.volume.size }}
- name: wiki-config
  configMap:
    name: {{ include "backups.wikiConfig" . }}
- name: database-config
  projected:
    sources:
      - configMap:
          name: {{ include "backups.databaseConfig" . }}
          items:
            - key: start.sh
              path: start.sh
            - key: my.cnf
              path: server.cnf
      - configMap:
          name: {{ include "backups.fullname" . }}
          items:
            - key: drill.cnf
              path: my.cnf
# In memory only.
- name: passwords
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: memory
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
- name: drill
  emptyDir:
    sizeLimit: 1Mi
- name: socket
  emptyDir:
    sizeLimit: 1Mi
- name: database-tmp
  emptyDir:
    sizeLimit: 2Gi
- name: webinf
  emptyDir:
    sizeLimit: 8Mi
- name: work
  emptyDir:
    sizeLimit: 2Gi
- name: tomcat
  emptyDir:
    sizeLimit: 1Gi
- name: tmp
  emptyDir:
    sizeLimit: 512Mi
{{- end }}
