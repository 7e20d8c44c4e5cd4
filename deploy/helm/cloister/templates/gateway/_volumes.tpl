{{/*
cloister.gateway.secretSources: all that the gateway may read. The test pod's first container, which makes an API
key with the gateway's own command, reads the same.
*/}}
{{- define "cloister.gateway.secretSources" -}}
{{ include "cloister.secret.source" (dict "root" . "ref" .Values.vault.rootKeySecret "suffix" "vault" "path" "root-key") }}
{{ include "cloister.secret.source" (dict "root" . "ref" .Values.gateway.pepperSecret "suffix" "identity" "path" "pepper") }}
{{- range $part := list "llm" "embedder" "retriever" }}
{{ include "cloister.token.source" (dict "root" $ "part" $part) }}
{{- end }}
{{- if .Values.redis.bundled }}
{{ include "cloister.secret.source" (dict "root" . "suffix" "redis-auth" "key" "password" "path" "redis-password") }}
{{ include "cloister.ca.source" (dict "root" . "part" "redis") }}
{{- else }}
{{ include "cloister.secret.source" (dict "ref" .Values.redis.external.passwordSecret "path" "redis-password") }}
{{ include "cloister.secret.source" (dict "ref" .Values.redis.external.sentinel.passwordSecret "path" "sentinel-password") }}
{{ include "cloister.secret.source" (dict "ref" .Values.redis.external.caSecret "path" "redis-ca.crt") }}
{{- end }}
{{- range $part := list "embedder" "retriever" }}
{{ include "cloister.ca.source" (dict "root" $ "part" $part) }}
{{- end }}
{{- if .Values.tls.enabled }}
{{- /* All models' certificates come from one CA: any of them carries it. */}}
{{- with keys .Values.llm.models | sortAlpha | first }}
{{ include "cloister.secret.source" (dict "root" $ "suffix" (printf "llm-%s-tls" .) "key" "ca.crt" "path" "llm-ca.crt") }}
{{- end }}
{{- end }}
{{- end -}}
