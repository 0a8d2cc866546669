{{/* Pods of the release. Given (root, component, roles); without roles all of the component. */}}
{{- define "netpol.pods" -}}
{{- $root := index . 0 -}}
matchLabels:
  app.kubernetes.io/instance: {{ $root.Release.Name }}
  app.kubernetes.io/component: {{ index . 1 }}
{{- with index . 2 }}
matchExpressions:
  - key: xwiki-stack/role
    operator: In
    values: {{ toJson . }}
{{- end }}
{{- end }}

{{/* The other end of a flow as a list of NetworkPolicyPeer. Given (root, table, end). */}}
{{- define "netpol.peers" -}}
{{- $root := index . 0 }}
{{- $table := index . 1 }}
{{- $end := index . 2 }}
{{- if kindIs "map" $end }}
- podSelector:
    {{- include "netpol.pods" (tuple $root $end.component $end.roles) | nindent 4 }}
{{- else }}
{{- $peer := get $table.peers $end | required (printf "charts/netpol/files/flows.yaml: %s is no peer" $end) }}
{{- $value := get $root.Values $end }}
{{- if eq $peer.kind "namespace" }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ $value.namespace }}
  {{- with $peer.labels }}
  podSelector:
    matchLabels:
      {{- toYaml . | nindent 6 }}
  {{- end }}
{{- with $peer.besides }}
{{- range get $value . }}
- ipBlock:
    cidr: {{ . }}
{{- end }}
{{- end }}
{{- else if $value.cidrs }}
{{- range $value.cidrs }}
- ipBlock:
    cidr: {{ . }}
{{- end }}
{{- else if eq $peer.kind "networks" }}
{{- range $all, $inside := $table.inside }}
- ipBlock:
    cidr: {{ $all }}
    except:
      {{- toYaml $inside | nindent 6 }}
{{- end }}
{{- else }}
- podSelector:
    {{- include "netpol.pods" (tuple $root $end list) | nindent 4 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The policy of one end of a flow. Given: root, table, flow, direction (Egress: of whom it comes from). */}}
{{- define "netpol.policy" -}}
{{- $ := .root }}
{{- $leaves := eq .direction "Egress" }}
{{- $guarded := ternary .flow.from .flow.to $leaves }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "netpol.fullname" $ }}-{{ .flow.name }}-{{ lower .direction }}
  labels:
    {{- include "netpol.labels" $ | nindent 4 }}
  annotations:
    xwiki-stack/reason: {{ .flow.reason | quote }}
spec:
  podSelector:
    {{- include "netpol.pods" (tuple $ $guarded.component $guarded.roles) | nindent 4 }}
  policyTypes: [{{ .direction }}]
  {{ lower .direction }}:
    - {{ ternary "to" "from" $leaves }}:
        {{- include "netpol.peers" (tuple $ .table (ternary .flow.to .flow.from $leaves)) | trim | nindent 8 }}
      ports:
        {{- range .flow.ports }}
        - protocol: {{ .protocol }}
          port: {{ if kindIs "string" .port }}{{ (get $.Values .port).port }}{{ else }}{{ .port }}{{ end }}
        {{- end }}
{{- end }}
