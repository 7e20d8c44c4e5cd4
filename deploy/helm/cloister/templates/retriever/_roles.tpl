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
{{ include "cloister.secret.source" (dict "root" . "ref" .Values.vault.rootKeySecret "suffix" "vault" "path" "root-key") }}
{{- range $part := list "embedder" "retriever" }}
{{ include "cloister.token.source" (dict "root" $ "part" $part) }}
{{- end }}
{{ include "cloister.ca.source" (dict "root" . "part" "embedder") }}
{{- if .Values.milvus.bundled }}
{{ include "cloister.secret.source" (dict "root" . "suffix" "milvus-auth" "key" "password" "path" "milvus-password") }}
{{ include "cloister.ca.source" (dict "root" . "part" "milvus") }}
{{- else }}
{{ include "cloister.secret.source" (dict "ref" .Values.milvus.external.passwordSecret "path" "milvus-password") }}
{{ include "cloister.secret.source" (dict "ref" .Values.milvus.external.caSecret "path" "milvus-ca.crt") }}
{{- end }}
{{- if eq .Values.blobs.type "s3" }}
{{ include "cloister.bucket.sources" .Values.blobs.s3 }}
{{- end }}
{{- end -}}
