{{/* The ends of a flow that are there, each the row of its peer with `name` and `roles`: {"ends": [...]}. Given (root, table, ends). */}}
{{- define "netpol.ends" -}}
{{- $root := index . 0 }}
{{- $table := index . 1 }}
{{- $found := list }}
{{- range $end := index . 2 }}
{{- $named := ternary $end (dict "peer" $end) (kindIs "map" $end) }}
{{- $peer := get $table.peers $named.peer | required (printf "charts/netpol/files/flows.yaml: %s is no peer" $named.peer) }}
{{- if or (not $peer.when) (get $root.Values.switches $peer.when) }}
{{- $found = append $found (merge (dict "name" $named.peer "roles" ($named.roles | default list)) $peer) }}
{{- end }}
{{- end }}
{{- toJson (dict "ends" $found) }}
{{- end }}

{{/* Whether an end is a server outside, or pods of the namespace that this release is for. Given (root, end). */}}
{{- define "netpol.outside" -}}
{{- $root := index . 0 }}
{{- $end := index . 1 }}
{{- if and $end.elsewhere (get $root.Values $end.name).cidrs }}true{{ end }}
{{- end }}

{{- define "netpol.own" -}}
{{- $root := index . 0 }}
{{- $end := index . 1 }}
{{- if and (eq $end.kind "pods") (eq ($end.room | default "") $root.Values.room) (not (include "netpol.outside" .)) }}true{{ end }}
{{- end }}

{{/* The selector of an end's pods. Given (root, end). In the own namespace the release's, elsewhere those of any release. */}}
{{- define "netpol.pods" -}}
{{- $root := index . 0 }}
{{- $end := index . 1 }}
{{- $selector := dict "matchLabels" $end.labels }}
{{- if $end.component }}
{{- $which := ternary (dict "app.kubernetes.io/instance" $root.Release.Name) (dict "app.kubernetes.io/name" (base $end.chart)) (eq $end.room $root.Values.room) }}
{{- $selector = dict "matchLabels" (merge (dict "app.kubernetes.io/component" $end.component) $which) }}
{{- end }}
{{- with $end.roles }}
{{- $_ := set $selector "matchExpressions" (list (dict "key" "xwiki-stack/role" "operator" "In" "values" .)) }}
{{- end }}
{{- toJson $selector }}
{{- end }}

{{/* An end as peers of a NetworkPolicy: {"everyone": whether it is whoever comes, "peers": [...]}. Given (root, table, end, direction). */}}
{{- define "netpol.peers" -}}
{{- $root := index . 0 }}
{{- $table := index . 1 }}
{{- $end := index . 2 }}
{{- $value := get $root.Values $end.name | default dict }}
{{- $found := list }}
{{- $networks := list }}
{{- if eq $end.kind "pods" }}
{{- if include "netpol.outside" (tuple $root $end) }}
{{- $networks = $value.cidrs }}
{{- else if include "netpol.own" (tuple $root $end) }}
{{- $found = append $found (dict "podSelector" (include "netpol.pods" (tuple $root $end) | fromJson)) }}
{{- else }}
{{- with get $root.Values.namespaces $end.room }}
{{- $where := dict "matchExpressions" (list (dict "key" "kubernetes.io/metadata.name" "operator" "In" "values" .)) }}
{{- $found = append $found (dict "namespaceSelector" $where "podSelector" (include "netpol.pods" (tuple $root $end) | fromJson)) }}
{{- end }}
{{- end }}
{{- with $end.besides }}
{{- $networks = get $value . }}
{{- end }}
{{- else if eq $end.kind "networks" }}
{{- $networks = $value.cidrs }}
{{- if not $networks }}
{{- range $all, $holes := get $table $end.otherwise }}
{{- $found = append $found (dict "ipBlock" (dict "cidr" $all "except" $holes)) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $networks }}
{{- $found = append $found (dict "ipBlock" (dict "cidr" .)) }}
{{- end }}
{{- /* Who calls from an address that nobody named may be a node, which some plugins match by no network. */ -}}
{{- $named := or (ne $end.otherwise "anywhere") $networks (eq (index . 3) "Egress") }}
{{- toJson (dict "everyone" (or (eq $end.kind "everyone") (not $named)) "peers" $found) }}
{{- end }}

{{/* The policy of one end of a flow, or nothing where the other end is nowhere. Given: root, table, flow, end, others, direction, suffix. */}}
{{- define "netpol.policy" -}}
{{- $ := .root }}
{{- $table := .table }}
{{- $direction := .direction }}
{{- $peers := list }}
{{- $everyone := false }}
{{- range .others }}
{{- $found := include "netpol.peers" (tuple $ $table . $direction) | fromJson }}
{{- $peers = concat $peers $found.peers }}
{{- $everyone = or $everyone $found.everyone }}
{{- end }}
{{- if or $peers $everyone }}
{{- $rule := dict }}
{{- if not $everyone }}
{{- $_ := set $rule (ternary "to" "from" (eq $direction "Egress")) $peers }}
{{- end }}
{{- $ports := list }}
{{- range .flow.ports }}
{{- $port := splitList "/" . }}
{{- $number := first $port }}
{{- if not (regexMatch "^[0-9]+$" $number) }}
{{- $number = (get $.Values $number).port }}
{{- end }}
{{- $ports = append $ports (dict "protocol" (last $port | upper) "port" (int $number)) }}
{{- end }}
{{- $_ := set $rule "ports" $ports }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "netpol.fullname" $ }}-{{ .flow.name }}-{{ lower $direction }}{{ .suffix }}
  labels:
    {{- include "netpol.labels" $ | nindent 4 }}
  annotations:
    xwiki-stack/reason: {{ .flow.reason | quote }}
spec:
  podSelector:
    {{- include "netpol.pods" (tuple $ .end) | fromJson | toYaml | nindent 4 }}
  policyTypes: [{{ $direction }}]
  {{ lower $direction }}:
    {{- toYaml (list $rule) | nindent 4 }}
{{- end }}
{{- end }}
