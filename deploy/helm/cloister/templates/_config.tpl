{{/*
The settings file of every service: what the chart knows (addresses, files, ports, TLS), overlaid with the part's
`config` from the values. The service's own settings class reads the result and refuses what it does not know.
*/}}

{{/* cloister.config.server: the `server` and `log` sections. Takes root, api, metrics, and level, the part's own. */}}
{{- define "cloister.config.server" -}}
server:
  host: {{ .root.Values.listenAddress | quote }}
  port: {{ .api }}
  metrics_port: {{ .metrics }}
{{- if .root.Values.tls.enabled }}
  tls:
    certificate_file: /run/cloister/tls/tls.crt
    key_file: /run/cloister/tls/tls.key
{{- end }}
log:
  level: {{ .level | default .root.Values.logLevel }}
{{- end -}}

{{/* cloister.config.peer: how one part calls another: token, and the CA that it must show a certificate of. */}}
{{- define "cloister.config.peer" -}}
token_file: /run/cloister/secrets/{{ .part }}-token
{{- if .root.Values.tls.enabled }}
tls:
  ca_file: /run/cloister/secrets/{{ .part }}-ca.crt
{{- end }}
{{- end -}}

{{/*
cloister.config.digest: what a service reads only at its start, as an annotation that replaces its pods when it changes.
Not what it takes over from the mounted file while it runs: the log level, and the gateway's models.
*/}}
{{- define "cloister.config.digest" -}}
{{- omit (fromYaml .) "log" | toYaml | sha256sum -}}
{{- end -}}

{{- define "cloister.gateway.config" -}}
{{- $models := dict -}}
{{- range $key, $entry := .Values.llm.models -}}
{{- $model := include "cloister.llm.model" (dict "root" $ "key" $key) | fromYaml -}}
{{- $where := dict "service" (include "cloister.llm.service" (dict "root" $ "key" $key)) -}}
{{- if eq $.Values.llm.discovery.kind "kubernetes" -}}
{{- $where = dict "kubernetes" (include "cloister.llm.slices" (dict "root" $ "part" (printf "llm-%s" $key)) | fromYaml) -}}
{{- end -}}
{{- $_ := set $models $model.name (merge $where (dict "context_tokens" ($model.contextTokens | int) "temperature" $model.temperature "top_p" $model.topP "reasoning" $model.reasoning "tools" $model.tools "images" ($model.images | int) "projects" $model.projects) (include "cloister.llm.waking" (dict "root" $ "key" $key "model" $model) | fromYaml)) -}}
{{- with $model.tokensInFlight | int -}}
{{- $_ := set (get $models $model.name) "tokens_in_flight" . -}}
{{- end -}}
{{- end -}}
{{- $known := include "cloister.gateway.known" . | fromYaml -}}
{{- $_ := set $known "models" $models -}}
{{- toYaml (mergeOverwrite $known (deepCopy .Values.gateway.config)) -}}
{{- end -}}

{{- define "cloister.gateway.known" -}}
{{ include "cloister.config.server" (dict "root" . "api" 8080 "metrics" 9080 "level" .Values.gateway.logLevel) }}
vault:
  root_key_file: /run/cloister/secrets/root-key
identity:
  pepper_file: /run/cloister/secrets/pepper
{{- with .Values.gateway.origins }}
browsers:
  origins: {{ toJson . }}
{{- end }}
redis:
{{- if .Values.redis.bundled }}
  url: {{ printf "%s://%s:6379" (ternary "rediss" "redis" .Values.tls.enabled) (include "cloister.host" (dict "root" . "part" "redis")) }}
  username: cloister
  password_file: /run/cloister/secrets/redis-password
{{- if .Values.tls.enabled }}
  tls:
    ca_file: /run/cloister/secrets/redis-ca.crt
{{- end }}
{{- else }}
{{- with .Values.redis.external }}
{{- if .url }}
  url: {{ .url }}
{{- end }}
{{- with .cluster.urls }}
  cluster:
    urls: {{ toJson . }}
{{- end }}
{{- with .sentinel }}
{{- if .urls }}
  sentinel:
    urls: {{ toJson .urls }}
    service: {{ .service | quote }}
{{- if .username }}
    username: {{ .username }}
{{- end }}
{{- if .passwordSecret.name }}
    password_file: /run/cloister/secrets/sentinel-password
{{- end }}
{{- end }}
{{- end }}
{{- if .replicasToWait }}
  replicas_to_wait: {{ .replicasToWait }}
{{- end }}
{{- if .username }}
  username: {{ .username }}
{{- end }}
{{- if .passwordSecret.name }}
  password_file: /run/cloister/secrets/redis-password
{{- end }}
{{- if .caSecret.name }}
  tls:
    ca_file: /run/cloister/secrets/redis-ca.crt
{{- end }}
{{- end }}
{{- end }}
llm:
  {{- include "cloister.config.peer" (dict "root" . "part" "llm") | nindent 2 }}
embedder:
  url: {{ include "cloister.scheme" . }}://{{ include "cloister.host" (dict "root" . "part" "embedder") }}:8081
  attribution_model: {{ .Values.retriever.embeddingModel }}
  {{- include "cloister.config.peer" (dict "root" . "part" "embedder") | nindent 2 }}
retriever:
  url: {{ include "cloister.scheme" . }}://{{ include "cloister.host" (dict "root" . "part" "retriever") }}:8082
  {{- include "cloister.config.peer" (dict "root" . "part" "retriever") | nindent 2 }}
{{- end -}}

{{- define "cloister.embedder.config" -}}
{{- $known := include "cloister.embedder.known" . | fromYaml -}}
{{- $config := mergeOverwrite $known (deepCopy .Values.embedder.config) -}}
{{- $models := dict -}}
{{- range $name, $model := .Values.embedder.models -}}
{{- $_ := set $models $name (merge (dict "path" (printf "/models/%s" $model.folder)) (omit $model "folder")) -}}
{{- end -}}
{{- $_ := set $config "models" $models -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "cloister.embedder.known" -}}
{{ include "cloister.config.server" (dict "root" . "api" 8081 "metrics" 9081 "level" .Values.embedder.logLevel) }}
token_file: /run/cloister/secrets/embedder-token
{{- end -}}

{{/* cloister.retriever.config: takes root and role (all, api or ingest). */}}
{{- define "cloister.retriever.config" -}}
{{- $known := include "cloister.retriever.known" . | fromYaml -}}
{{- toYaml (mergeOverwrite $known (deepCopy .root.Values.retriever.config)) -}}
{{- end -}}

{{- define "cloister.retriever.known" -}}
{{- $values := .root.Values -}}
{{ include "cloister.config.server" (dict "root" .root "api" 8082 "metrics" 9082 "level" $values.retriever.logLevel) }}
role: {{ .role }}
token_file: /run/cloister/secrets/retriever-token
vault:
  root_key_file: /run/cloister/secrets/root-key
embedder:
  url: {{ include "cloister.scheme" .root }}://{{ include "cloister.host" (dict "root" .root "part" "embedder") }}:8081
  model: {{ $values.retriever.embeddingModel }}
{{- with $values.retriever.imageModel }}
  image_model: {{ . }}
{{- end }}
  {{- include "cloister.config.peer" (dict "root" .root "part" "embedder") | nindent 2 }}
ingestion:
  tokenizer_path: /models/{{ include "cloister.retriever.tokenizer" .root }}
milvus:
{{- if $values.milvus.bundled }}
  uri: {{ include "cloister.scheme" .root }}://{{ include "cloister.host" (dict "root" .root "part" "milvus") }}:19530
  user: cloister
  password_file: /run/cloister/secrets/milvus-password
{{- if $values.tls.enabled }}
  tls:
    ca_file: /run/cloister/secrets/milvus-ca.crt
{{- end }}
{{- else }}
{{- with $values.milvus.external }}
  uri: {{ .uri }}
{{- if .user }}
  user: {{ .user }}
{{- end }}
{{- if .passwordSecret.name }}
  password_file: /run/cloister/secrets/milvus-password
{{- end }}
{{- if .database }}
  database: {{ .database }}
{{- end }}
{{- if or .caSecret.name .serverName }}
  tls:
{{- if .caSecret.name }}
    ca_file: /run/cloister/secrets/milvus-ca.crt
{{- end }}
{{- if .serverName }}
    server_name: {{ .serverName }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
blobs:
{{- if eq $values.blobs.type "volume" }}
  url: file:///var/lib/cloister/blobs
{{- else }}
{{- include "cloister.config.bucket" $values.blobs.s3 | nindent 2 }}
{{- end }}
{{- end -}}

{{/* cloister.config.bucket: a bucket, as the settings of the part that opens it have it. Takes its section. */}}
{{- define "cloister.config.bucket" -}}
url: {{ .url }}
{{- if .endpoint }}
endpoint: {{ .endpoint }}
{{- end }}
{{- if .region }}
region: {{ .region }}
{{- end }}
{{- if .credentialsSecret.name }}
access_key_id_file: /run/cloister/secrets/s3-access-key-id
secret_access_key_file: /run/cloister/secrets/s3-secret-access-key
{{- end }}
{{- if .caSecret.name }}
ca_file: /run/cloister/secrets/s3-ca.crt
{{- end }}
{{- end -}}

{{/* cloister.llm.model: one entry of llm.models over llm.modelDefaults. Takes root and key. */}}
{{- define "cloister.llm.model" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.llm.modelDefaults) (deepCopy (index .root.Values.llm.models .key))) -}}
{{- end -}}

{{/*
cloister.llm.service: the name of a model's headless Service, which stands for each of its pods: the gateway looks it up
again and again. The pods' own names in its settings would restart the gateways with every change of replicas.
*/}}
{{/* cloister.llm.slices: what finds the EndpointSlices of a model's Service. Takes root and part. */}}
{{- define "cloister.llm.slices" -}}
namespace: {{ .root.Release.Namespace }}
labels:
  kubernetes.io/service-name: {{ include "cloister.name" . }}
scheme: {{ include "cloister.scheme" .root }}
{{- if .root.Values.tls.enabled }}
server_name: {{ include "cloister.host" . }}
{{- end }}
{{- end -}}

{{- define "cloister.llm.service" -}}
{{- include "cloister.scheme" .root }}://{{ include "cloister.host" (dict "root" .root "part" (printf "llm-%s" .key)) }}:8083
{{- end -}}

{{/* cloister.llm.scaled: the names of the workloads that gateways scale, as YAML. */}}
{{- define "cloister.llm.scaled" -}}
{{- $names := list -}}
{{- range $key, $_ := .Values.llm.models -}}
{{- if eq (include "cloister.llm.model" (dict "root" $ "key" $key) | fromYaml).mode "serverless" -}}
{{- $names = append $names (include "cloister.name" (dict "root" $ "part" (printf "llm-%s" $key))) -}}
{{- end -}}
{{- end -}}
{{- toYaml $names -}}
{{- end -}}

{{/* cloister.llm.waking: when a model rests and how it is woken, for the gateway. Takes root, key and model. */}}
{{- define "cloister.llm.waking" -}}
{{- if ne .model.mode "dedicated" -}}
mode: {{ .model.mode }}
waking:
  {{- with .model.waking }}
  idle_seconds: {{ .idleSeconds }}
  queue: {{ .queue | int }}
  deadline_seconds: {{ .deadlineSeconds }}
  {{- end }}
  {{- if eq .model.mode "serverless" }}
  replicas: {{ .model.replicas | int }}
  workload:
    namespace: {{ .root.Release.Namespace }}
    kind: statefulset
    name: {{ include "cloister.name" (dict "root" .root "part" (printf "llm-%s" .key)) }}
  {{- else }}
  sleep_level: {{ .model.waking.sleepLevel | int }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "cloister.llm.config" -}}
{{- $model := include "cloister.llm.model" . | fromYaml -}}
{{- $known := include "cloister.llm.known" (dict "root" .root "model" $model) | fromYaml -}}
{{- toYaml (mergeOverwrite $known $model.config) -}}
{{- end -}}

{{- define "cloister.llm.known" -}}
{{ include "cloister.config.server" (dict "root" .root "api" 8083 "metrics" 9083 "level" .model.logLevel) }}
token_file: /run/cloister/secrets/llm-token
model:
  name: {{ .model.name }}
  path: /models/{{ .model.weights.folder }}
  images: {{ .model.images }}
engine:
  device: {{ ternary "gpu" "cpu" (gt (int .model.gpus) 0) }}
  max_model_len: {{ .model.contextTokens }}
  tensor_parallel: {{ max 1 (int .model.gpus) }}
  sleep: {{ eq .model.mode "sleep" }}
  cache_dir: /tmp/vllm
{{- with .model.adapters }}
{{- if or .claim .s3.url }}
lora:
  {{- if .claim }}
  folder: /adapters
  {{- else }}
  bucket:
    {{- include "cloister.config.bucket" .s3 | nindent 4 }}
  {{- end }}
  slots: {{ .slots }}
  rank: {{ .rank }}
  max_mib: {{ .maxMib }}
{{- end }}
{{- end }}
{{- end -}}
