{{/* Two pods that try whether policies are enforced (scripts/xwiki_stack/enforcement.py): the probe connects, the target
answers. What each may is in the table, as of all pods. The ports stand there as well; tests/render/test_enforcement.py compares
them. They run in the namespace of a wiki, whichever of the cluster's releases have the switch on. */}}
{{- define "netpol.probed" -}}
{{- if and .Values.switches.probe (eq .Values.room "apps") }}true{{ end }}
{{- end }}

{{- define "netpol.probePorts" -}}
control: 9201
egress: 9203
ingress: 9205
metrics: 9106
{{- end }}

{{/* The labels by which one of them is found. Given (root, role). */}}
{{- define "netpol.probeLabels" -}}
app.kubernetes.io/name: netpol
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: netpol
xwiki-stack/role: {{ index . 1 }}
{{- end }}

{{/* One of them. Given: root, role, args, ports (names), probes. */}}
{{- define "netpol.probeDeployment" -}}
{{- $ := .root }}
{{- $ports := include "netpol.probePorts" $ | fromYaml }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "netpol.fullname" $ }}-{{ .role }}
  labels:
    {{- include "netpol.labels" $ | nindent 4 }}
    xwiki-stack/role: {{ .role }}
spec:
  replicas: 1
  strategy:
    # Two at once would be two answers to one question.
    type: Recreate
  selector:
    matchLabels:
      {{- include "netpol.probeLabels" (tuple $ .role) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "netpol.probeLabels" (tuple $ .role) | nindent 8 }}
    spec:
      serviceAccountName: {{ include "netpol.fullname" $ }}
      automountServiceAccountToken: false
      # The probe knows its target by address: it must not need names, which a policy may forbid as well.
      enableServiceLinks: {{ eq .role "probe" }}
      {{- with $.Values.probe.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: {{ .role }}
          image: "{{ $.Values.probe.image.repository }}:{{ $.Values.probe.image.tag }}"
          imagePullPolicy: {{ $.Values.probe.image.pullPolicy }}
          command: ["xwiki-stack", "enforcement"]
          args: {{ toJson .args }}
          ports:
            {{- range .ports }}
            - name: {{ . }}
              containerPort: {{ get $ports . }}
            {{- end }}
          startupProbe:
            {{- toYaml .alive | nindent 12 }}
            periodSeconds: 2
            failureThreshold: 60
          readinessProbe:
            tcpSocket:
              port: {{ first .ports }}
          livenessProbe:
            {{- toYaml .alive | nindent 12 }}
            periodSeconds: 30
            timeoutSeconds: 10
            failureThreshold: 5
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: ["ALL"]
          resources:
            {{- toYaml $.Values.probe.resources | nindent 12 }}
{{- end }}
