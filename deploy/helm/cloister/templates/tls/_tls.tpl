{{/* Certificates: which parts have one, under which names, and who signs. */}}

{{/*
cloister.tls.parts: a map of part → extra DNS names. Every part that listens has a certificate of its own. What a
TLSRoute passes through unopened is the gateway's to answer under the route's name.
*/}}
{{- define "cloister.tls.parts" -}}
{{- if and .Values.tls.enabled (not .Values.gateway.tls.secretName) }}
{{- $passed := and .Values.gateway.route.enabled (eq .Values.gateway.route.kind "TLSRoute") }}
gateway: {{ concat (list "localhost") .Values.gateway.tls.extraDnsNames (ternary (list .Values.gateway.route.host) list $passed) | toJson }}
{{- end }}
embedder: []
retriever: []
{{- range $key, $_ := .Values.llm.models }}
{{- $host := include "cloister.host" (dict "root" $ "part" (printf "llm-%s" $key)) }}
llm-{{ $key }}: {{ list (printf "*.%s" $host) | toJson }}
{{- end }}
{{- if .Values.redis.bundled }}
redis: [localhost]
{{- end }}
{{- if .Values.milvus.bundled }}
milvus: []
{{- end }}
{{- end -}}

{{/* cloister.tls.names: all DNS names of a part, as a JSON list. Takes root, part and extra. */}}
{{- define "cloister.tls.names" -}}
{{- $name := include "cloister.name" . -}}
{{- $namespace := .root.Release.Namespace -}}
{{- concat (list (include "cloister.host" .) (printf "%s.%s.svc" $name $namespace) (printf "%s.%s" $name $namespace) $name) .extra | uniq | toJson -}}
{{- end -}}

{{/* cloister.tls.secret: the Secret with a part's certificate. Takes root and part. */}}
{{- define "cloister.tls.secret" -}}
{{- if and (eq .part "gateway") .root.Values.gateway.tls.secretName -}}
{{- .root.Values.gateway.tls.secretName -}}
{{- else -}}
{{- include "cloister.name" (dict "root" .root "part" (printf "%s-tls" .part)) -}}
{{- end -}}
{{- end -}}

{{/* cloister.gateway.shownHost: the host in a certificate of yours; nothing where the chart's names are in it. */}}
{{- define "cloister.gateway.shownHost" -}}
{{- with .Values.gateway -}}
{{- if .tls.secretName -}}
{{- .route.host | default .ingress.host | default (first .tls.extraDnsNames) | default "" -}}
{{- end -}}
{{- end -}}
{{- end -}}
