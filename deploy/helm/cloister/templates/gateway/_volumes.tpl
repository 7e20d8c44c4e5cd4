{{/*
cloister.gateway.secretSources: all that the gateway may read. The test pod's first container, which makes an API
key with the gateway's own command, reads the same.
*/}}
{{- define "cloister.gateway.secretSources" -}}
{{ include "cloister.secretSource" (dict "secret" (include "cloister.secret.name" (dict "root" . "ref" .Values.vault.rootKeySecret "suffix" "vault")) "key" .Values.vault.rootKeySecret.key "path" "root-key") }}
{{ include "cloister.secretSource" (dict "secret" (include "cloister.secret.name" (dict "root" . "ref" .Values.gateway.pepperSecret "suffix" "identity")) "key" .Values.gateway.pepperSecret.key "path" "pepper") }}
{{- range $part := list "llm" "embedder" "retriever" }}
{{- $ref := (index $.Values $part).tokenSecret }}
{{ include "cloister.secretSource" (dict "secret" (include "cloister.secret.name" (dict "root" $ "ref" $ref "suffix" (printf "%s-token" $part))) "key" $ref.key "path" (printf "%s-token" $part)) }}
{{- end }}
{{- if .Values.redis.bundled }}
{{ include "cloister.secretSource" (dict "secret" (include "cloister.name" (dict "root" . "part" "redis-auth")) "key" "password" "path" "redis-password") }}
{{ include "cloister.caSource" (dict "root" . "part" "redis") }}
{{- else }}
{{- with .Values.redis.external.passwordSecret }}
{{- if .name }}
{{ include "cloister.secretSource" (dict "secret" .name "key" .key "path" "redis-password") }}
{{- end }}
{{- end }}
{{- with .Values.redis.external.caSecret }}
{{- if .name }}
{{ include "cloister.secretSource" (dict "secret" .name "key" .key "path" "redis-ca.crt") }}
{{- end }}
{{- end }}
{{- end }}
{{- range $part := list "embedder" "retriever" }}
{{ include "cloister.caSource" (dict "root" $ "part" $part) }}
{{- end }}
{{- if .Values.tls.enabled }}
{{- /* All models' certificates come from one CA: any of them carries it. */}}
{{- with keys .Values.llm.models | sortAlpha | first }}
{{ include "cloister.secretSource" (dict "secret" (include "cloister.tls.secret" (dict "root" $ "part" (printf "llm-%s" .))) "key" "ca.crt" "path" "llm-ca.crt") }}
{{- end }}
{{- end }}
{{- end -}}
