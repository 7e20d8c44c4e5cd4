{{/*
cloister.retriever.roles: workload → role. One that does all, or an API that answers searches and a worker that
ingests, so that a large upload does not slow a search.
*/}}
{{- define "cloister.retriever.roles" -}}
{{- if .Values.retriever.ingest.separate }}
retriever: api
retriever-ingest: ingest
{{- else }}
retriever: all
{{- end }}
{{- end -}}

{{/* cloister.retriever.values: the values of one workload. The worker has its own size, the rest they share. */}}
{{- define "cloister.retriever.values" -}}
{{- if eq .name "retriever-ingest" -}}
{{- toYaml (merge (deepCopy .root.Values.retriever.ingest) (omit .root.Values.retriever "autoscaling" "ingest")) -}}
{{- else -}}
{{- toYaml .root.Values.retriever -}}
{{- end -}}
{{- end -}}

{{/* cloister.retriever.tokenizer: the folder of the embedding model. */}}
{{- define "cloister.retriever.tokenizer" -}}
{{- (index .Values.embedder.models .Values.retriever.embeddingModel).folder -}}
{{- end -}}

{{/* cloister.retriever.secretSources: all that a retriever may read. */}}
{{- define "cloister.retriever.secretSources" -}}
{{ include "cloister.secretSource" (dict "secret" (include "cloister.secret.name" (dict "root" . "ref" .Values.vault.rootKeySecret "suffix" "vault")) "key" .Values.vault.rootKeySecret.key "path" "root-key") }}
{{- range $part := list "embedder" "retriever" }}
{{- $ref := (index $.Values $part).tokenSecret }}
{{ include "cloister.secretSource" (dict "secret" (include "cloister.secret.name" (dict "root" $ "ref" $ref "suffix" (printf "%s-token" $part))) "key" $ref.key "path" (printf "%s-token" $part)) }}
{{- end }}
{{ include "cloister.caSource" (dict "root" . "part" "embedder") }}
{{- if .Values.milvus.bundled }}
{{ include "cloister.secretSource" (dict "secret" (include "cloister.name" (dict "root" . "part" "milvus-auth")) "key" "password" "path" "milvus-password") }}
{{ include "cloister.caSource" (dict "root" . "part" "milvus") }}
{{- else }}
{{- with .Values.milvus.external }}
{{- if .passwordSecret.name }}
{{ include "cloister.secretSource" (dict "secret" .passwordSecret.name "key" .passwordSecret.key "path" "milvus-password") }}
{{- end }}
{{- if .caSecret.name }}
{{ include "cloister.secretSource" (dict "secret" .caSecret.name "key" .caSecret.key "path" "milvus-ca.crt") }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq .Values.blobs.type "s3" }}
{{- with .Values.blobs.s3 }}
{{- if .credentialsSecret.name }}
{{ include "cloister.secretSource" (dict "secret" .credentialsSecret.name "key" .credentialsSecret.accessKeyIdKey "path" "s3-access-key-id") }}
{{ include "cloister.secretSource" (dict "secret" .credentialsSecret.name "key" .credentialsSecret.secretAccessKeyKey "path" "s3-secret-access-key") }}
{{- end }}
{{- if .caSecret.name }}
{{ include "cloister.secretSource" (dict "secret" .caSecret.name "key" .caSecret.key "path" "s3-ca.crt") }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
