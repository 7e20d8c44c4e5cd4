{{/*
What a schema cannot say: values that contradict each other, or leave out what an installation needs. Each message
says what is wrong, why it matters, and how to mend it.
*/}}

{{- define "cloister.validate" -}}
{{- include "cloister.validate.models" . -}}
{{- include "cloister.validate.config" . -}}
{{- include "cloister.validate.secrets" . -}}
{{- include "cloister.validate.scaling" . -}}
{{- include "cloister.validate.tls" . -}}
{{- include "cloister.validate.stores" . -}}
{{- include "cloister.validate.network" . -}}
{{- include "cloister.validate.doors" . -}}
{{- end -}}

{{/* cloister.fault: stops the rendering. Takes what, why and mend. */}}
{{- define "cloister.fault" -}}
{{- fail (printf "\n\n  what: %s\n  why:  %s\n  mend: %s\n" .what .why .mend) -}}
{{- end -}}

{{- define "cloister.validate.models" -}}
{{- if not .Values.llm.models -}}
{{- include "cloister.fault" (dict "what" "llm.models is empty." "why" "Without a chat model there is nobody to answer." "mend" "Name one under llm.models, or add -f ci/quickstart-values.yaml to try the small one.") -}}
{{- end -}}
{{- $names := dict -}}
{{- range $key, $_ := .Values.llm.models -}}
{{- $model := include "cloister.llm.model" (dict "root" $ "key" $key) | fromYaml -}}
{{- if not $model.name -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s has no name." $key) "why" "Clients choose a model by its public name." "mend" (printf "Set llm.models.%s.name." $key)) -}}
{{- end -}}
{{- if hasKey $names $model.name -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s and llm.models.%s are both named %s." (get $names $model.name) $key $model.name) "why" "One of them could never be chosen." "mend" "Give each its own name; more pods of one model are its replicas.") -}}
{{- end -}}
{{- $_ := set $names $model.name $key -}}
{{- if not $model.weights.folder -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s.weights.folder is empty." $key) "why" "The pod would not know which weights to load." "mend" "Name the model's folder under the root of the claim, or of the models image.") -}}
{{- end -}}
{{- end -}}
{{- $embedding := index .Values.embedder.models .Values.retriever.embeddingModel | default dict -}}
{{- if ne ($embedding.kind | default "") "text" -}}
{{- include "cloister.fault" (dict "what" (printf "retriever.embeddingModel %q is not a text model of embedder.models." .Values.retriever.embeddingModel) "why" "Passages and questions must be embedded by one and the same model." "mend" "Add it to embedder.models with kind: text and a folder, or name one that is there.") -}}
{{- end -}}
{{- end -}}

{{/* Ports, certificates and addresses stand in Services, probes and policies too: a setting alone would break them. */}}
{{- define "cloister.validate.config" -}}
{{- $sections := dict "gateway.config" .Values.gateway.config "embedder.config" .Values.embedder.config "retriever.config" .Values.retriever.config "llm.modelDefaults.config" .Values.llm.modelDefaults.config -}}
{{- range $key, $model := .Values.llm.models -}}
{{- $_ := set $sections (printf "llm.models.%s.config" $key) ($model.config | default dict) -}}
{{- end -}}
{{- range $name, $config := $sections -}}
{{- range $setting := list "host" "port" "metrics_port" "tls" -}}
{{- if hasKey ($config.server | default dict) $setting -}}
{{- include "cloister.fault" (dict "what" (printf "%s.server.%s is set." $name $setting) "why" "The chart writes it into Services, probes and network policies as well." "mend" "Leave it out; tls.enabled and listenAddress are the values for it.") -}}
{{- end -}}
{{- end -}}
{{- range $section, $settings := dict "redis" (list "url" "username" "password_file" "tls") "llm" (list "token_file" "tls") "embedder" (list "url" "model" "token_file" "tls") "retriever" (list "url" "token_file" "tls") "engine" (list "device" "max_model_len" "tensor_parallel") "ingestion" (list "tokenizer_path") -}}
{{- range $setting := $settings -}}
{{- if hasKey (index $config $section | default dict) $setting -}}
{{- include "cloister.fault" (dict "what" (printf "%s.%s.%s is set." $name $section $setting) "why" "The chart fits it to its Services, Secrets, mounts and network policies." "mend" "Leave it out and use the chart's value: redis, *.tokenSecret, retriever.embeddingModel, contextTokens, gpus.") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $section := list "log" "vault" "identity" "token_file" "models" "model" "blobs" "milvus" "role" -}}
{{- if hasKey $config $section -}}
{{- include "cloister.fault" (dict "what" (printf "%s.%s is set." $name $section) "why" "The chart makes that section from its own values, and mounts the files it names." "mend" "Leave it out and use the chart's value: logLevel, vault, gateway.pepperSecret, *.tokenSecret, embedder.models, llm.models, blobs, milvus.") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A Secret of yours must not have the name of the chart's: Helm would delete the one, or refuse the other. */}}
{{- define "cloister.validate.secrets" -}}
{{- range $suffix, $entry := dict "vault" (list "vault.rootKeySecret" .Values.vault.rootKeySecret) "identity" (list "gateway.pepperSecret" .Values.gateway.pepperSecret) "embedder-token" (list "embedder.tokenSecret" .Values.embedder.tokenSecret) "retriever-token" (list "retriever.tokenSecret" .Values.retriever.tokenSecret) "llm-token" (list "llm.tokenSecret" .Values.llm.tokenSecret) -}}
{{- if eq (last $entry).name (include "cloister.name" (dict "root" $ "part" $suffix)) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.name is %s, as the chart calls the one it makes itself." (first $entry) (last $entry).name) "why" "Helm deletes its own where it is not to make it any more, and refuses one that others made under that name." "mend" "Give yours another name, or leave the value empty for the chart's.") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cloister.validate.scaling" -}}
{{- range $name, $part := dict "gateway" .Values.gateway "embedder" .Values.embedder "retriever" .Values.retriever -}}
{{- with $part.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.autoscaling.minReplicas is over maxReplicas." $name) "why" "Kubernetes refuses such an autoscaler in the middle of the install." "mend" (printf "Raise %s.autoscaling.maxReplicas." $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cloister.validate.tls" -}}
{{- if gt (int .Values.tls.chartIssuer.days) (int .Values.tls.chartIssuer.caDays) -}}
{{- include "cloister.fault" (dict "what" "tls.chartIssuer.days is over caDays." "why" "The certificates would outlive the CA that they are checked by." "mend" "Raise tls.chartIssuer.caDays.") -}}
{{- end -}}
{{- if and .Values.tls.enabled (eq .Values.tls.issuer "cert-manager") (not .Values.tls.certManager.issuerRef.name) -}}
{{- include "cloister.fault" (dict "what" "tls.issuer is cert-manager and tls.certManager.issuerRef.name is empty." "why" "cert-manager would not know who signs." "mend" "Name an Issuer or ClusterIssuer, or set tls.issuer=chart.") -}}
{{- end -}}
{{- end -}}

{{- define "cloister.validate.stores" -}}
{{- if not .Values.redis.bundled -}}
{{- if not .Values.redis.external.url -}}
{{- include "cloister.fault" (dict "what" "redis.bundled is false and redis.external.url is empty." "why" "The gateway keeps all its state in Redis." "mend" "Set redis.external.url to rediss://host:port/db, or redis.bundled=true.") -}}
{{- end -}}
{{- if and .Values.tls.enabled (hasPrefix "redis:" .Values.redis.external.url) -}}
{{- include "cloister.fault" (dict "what" "redis.external.url begins with redis:// while tls.enabled is true." "why" "The password and all that is stored would cross the network in clear." "mend" "Use rediss://, or set tls.enabled=false where a mesh encrypts.") -}}
{{- end -}}
{{- end -}}
{{- if not .Values.milvus.bundled -}}
{{- if not .Values.milvus.external.uri -}}
{{- include "cloister.fault" (dict "what" "milvus.bundled is false and milvus.external.uri is empty." "why" "The retriever searches in Milvus." "mend" "Set milvus.external.uri to https://host:port, or milvus.bundled=true.") -}}
{{- end -}}
{{- with .Values.milvus.external -}}
{{- if ne (empty .user) (empty .passwordSecret.name) -}}
{{- include "cloister.fault" (dict "what" "milvus.external.user and passwordSecret.name: one of them is empty." "why" "The retriever takes both or neither." "mend" "Set both, or neither for a Milvus without authentication.") -}}
{{- end -}}
{{- end -}}
{{- if and .Values.tls.enabled (hasPrefix "http:" .Values.milvus.external.uri) -}}
{{- include "cloister.fault" (dict "what" "milvus.external.uri begins with http:// while tls.enabled is true." "why" "The password would cross the network in clear." "mend" "Use https://, or set tls.enabled=false where a mesh encrypts.") -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.blobs.type "s3" -}}
{{- if not .Values.blobs.s3.url -}}
{{- include "cloister.fault" (dict "what" "blobs.type is s3 and blobs.s3.url is empty." "why" "The retriever would not know where files are." "mend" "Set blobs.s3.url to s3://bucket/prefix.") -}}
{{- end -}}
{{- if and .Values.tls.enabled (hasPrefix "http:" .Values.blobs.s3.endpoint) -}}
{{- include "cloister.fault" (dict "what" "blobs.s3.endpoint begins with http:// while tls.enabled is true." "why" "The access key's signatures and all that is stored would cross the network in clear." "mend" "Use https://, or set tls.enabled=false where a mesh encrypts.") -}}
{{- end -}}
{{- else if eq .Values.blobs.volume.accessMode "ReadWriteOnce" -}}
{{- if or .Values.retriever.ingest.separate .Values.retriever.autoscaling.enabled (gt (int .Values.retriever.replicas) 1) -}}
{{- include "cloister.fault" (dict "what" "Several retriever pods share a ReadWriteOnce volume." "why" "Pods on another node could not mount it and would hang at their start." "mend" "Set blobs.type=s3, or blobs.volume.accessMode=ReadWriteMany with a StorageClass that can.") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cloister.validate.network" -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $outside := dict "networkPolicy.dns" .Values.networkPolicy.dns -}}
{{- if not .Values.redis.bundled -}}{{- $_ := set $outside "redis.external" .Values.redis.external -}}{{- end -}}
{{- if not .Values.milvus.bundled -}}{{- $_ := set $outside "milvus.external" .Values.milvus.external -}}{{- end -}}
{{- if eq .Values.blobs.type "s3" -}}{{- $_ := set $outside "blobs.s3" .Values.blobs.s3 -}}{{- end -}}
{{- range $name, $section := $outside -}}
{{- if not $section.peers -}}
{{- include "cloister.fault" (dict "what" (printf "%s.peers is empty." $name) "why" "The network policies would keep the pods from it." "mend" "Name where it is, as NetworkPolicy peers: a namespaceSelector, or an ipBlock such as 10.20.0.0/24.") -}}
{{- end -}}
{{- range $peer := $section.peers -}}
{{- if has (dig "ipBlock" "cidr" "" $peer) (list "0.0.0.0/0" "::/0") -}}
{{- include "cloister.fault" (dict "what" (printf "%s.peers opens the whole internet." $name) "why" "No part of Cloister has a route out: what leaves cannot be called back." "mend" "Name the store's own addresses, such as 10.20.0.0/24.") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cloister.validate.doors" -}}
{{- with .Values.gateway.ingress -}}
{{- if and .enabled (or (not .host) (not .tlsSecretName)) -}}
{{- include "cloister.fault" (dict "what" "gateway.ingress.enabled without a host or a tlsSecretName." "why" "API keys would cross the network in clear, or every host name would lead here." "mend" "Set gateway.ingress.host and gateway.ingress.tlsSecretName.") -}}
{{- end -}}
{{- end -}}
{{- with .Values.gateway.route -}}
{{- if and .enabled (or (not .host) (not .parentRefs)) -}}
{{- include "cloister.fault" (dict "what" "gateway.route.enabled without a host or parentRefs." "why" "A route attaches to a Gateway and serves one host name." "mend" "Set gateway.route.host and gateway.route.parentRefs.") -}}
{{- end -}}
{{- if and .enabled (eq .kind "HTTPRoute") $.Values.tls.enabled (not .caConfigMap) -}}
{{- include "cloister.fault" (dict "what" "gateway.route.kind is HTTPRoute and gateway.route.caConfigMap is empty." "why" "The Gateway would speak plain HTTP to pods that speak TLS only." "mend" (printf "Name a ConfigMap with ca.crt (with tls.issuer=chart it is %s-ca), or set gateway.route.kind=TLSRoute." (include "cloister.fullname" $))) -}}
{{- end -}}
{{- if and .enabled (eq .kind "TLSRoute") (not $.Values.tls.enabled) -}}
{{- include "cloister.fault" (dict "what" "gateway.route.kind is TLSRoute while tls.enabled is false." "why" "The Gateway would pass TLS to pods that do not speak it." "mend" "Set gateway.route.kind=HTTPRoute, or tls.enabled=true.") -}}
{{- end -}}
{{- end -}}
{{- end -}}
