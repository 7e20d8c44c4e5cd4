{{/*
What a schema cannot say: values that contradict each other, or leave out what an installation needs. Each message
says what is wrong, why it matters, and how to mend it.
*/}}

{{- define "cloister.validate" -}}
{{- include "cloister.validate.models" . -}}
{{- include "cloister.validate.config" . -}}
{{- include "cloister.validate.secrets" . -}}
{{- include "cloister.validate.scaling" . -}}
{{- include "cloister.validate.resources" . -}}
{{- include "cloister.validate.memory" . -}}
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
{{- if hasKey $.Values.embedder.models $model.name -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s and a model of embedder.models are both named %s." $key $model.name) "why" "Clients choose a model by its name, whatever it does." "mend" "Give each its own name.") -}}
{{- end -}}
{{- $image := base $model.image.repository -}}
{{- if and (gt (int $model.gpus) 0) (eq $image "llm") -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s has gpus: %d and the image %s." $key (int $model.gpus) $model.image.repository) "why" "That image computes on CPUs: the pod would hold its GPUs and never start." "mend" (printf "Set llm.models.%s.image.repository to llm-cuda, or gpus to 0." $key)) -}}
{{- end -}}
{{- if and (eq (int $model.gpus) 0) (hasSuffix "-cuda" $image) -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s has the image %s and no GPU." $key $model.image.repository) "why" "That image computes on GPUs only: the pod would never start." "mend" (printf "Set llm.models.%s.gpus, or image.repository to llm." $key)) -}}
{{- end -}}
{{- if and (gt (int $model.gpus) 0) (not (regexMatch "^[a-z0-9][-a-z0-9.]*/[A-Za-z0-9]" $model.gpuResource)) -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s.gpuResource is %q." $key $model.gpuResource) "why" "Kubernetes knows devices by a domain and a name." "mend" "Write it as the device plugin does, such as nvidia.com/gpu.") -}}
{{- end -}}
{{- range $kind, $amounts := $model.resources -}}
{{- if hasKey ($amounts | default dict) $model.gpuResource -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s.resources.%s names %s." $key $kind $model.gpuResource) "why" "How many GPUs a pod has also decides how the model is spread over them." "mend" (printf "Leave it out and set llm.models.%s.gpus." $key)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $model.mode "serverless") (ne $.Values.llm.discovery.kind "kubernetes") -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s is serverless, and llm.discovery.kind is %s." $key $.Values.llm.discovery.kind) "why" "The gateways scale it by the Kubernetes API, for which they need an account and a way there." "mend" "Set llm.discovery.kind to kubernetes and llm.discovery.peers, or mode to dedicated.") -}}
{{- end -}}
{{- if and (eq $model.mode "sleep") (lt (int $model.gpus) 1) -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s has mode sleep and no GPU." $key) "why" "vLLM sleeps by giving a GPU's memory back; on CPUs the pod would not start." "mend" (printf "Set llm.models.%s.mode to serverless, or its gpus." $key)) -}}
{{- end -}}
{{- if and (eq $model.mode "sleep") (or $model.adapters.claim $model.adapters.s3.url) (eq (int $model.waking.sleepLevel) 2) -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s takes adapters and has waking.sleepLevel: 2." $key) "why" "At that level its adapters would be lost." "mend" (printf "Set llm.models.%s.waking.sleepLevel to 1." $key)) -}}
{{- end -}}
{{- if not $model.weights.folder -}}
{{- include "cloister.fault" (dict "what" (printf "llm.models.%s.weights.folder is empty." $key) "why" "The pod would not know which weights to load." "mend" "Name the model's folder under the root of the claim, or of the models image.") -}}
{{- end -}}
{{- end -}}
{{- if eq (dig "compute" "device" "auto" .Values.embedder.config) "cuda" -}}
{{- if not (regexMatch "/" (keys (.Values.embedder.resources.limits | default dict) | join " ")) -}}
{{- include "cloister.fault" (dict "what" "embedder.config.compute.device is cuda and embedder.resources.limits has no GPU." "why" "The pod would see none and never start." "mend" "Leave the device out: auto takes what is there; or give the pod a GPU and an image that can use it.") -}}
{{- end -}}
{{- end -}}
{{- $embedding := index .Values.embedder.models .Values.retriever.embeddingModel | default dict -}}
{{- if ne ($embedding.kind | default "") "text" -}}
{{- include "cloister.fault" (dict "what" (printf "retriever.embeddingModel %q is not a text model of embedder.models." .Values.retriever.embeddingModel) "why" "Passages and questions must be embedded by one and the same model." "mend" "Add it to embedder.models with kind: text and a folder, or name one that is there.") -}}
{{- end -}}
{{- with .Values.retriever.imageModel -}}
{{- $seeing := index $.Values.embedder.models . | default dict -}}
{{- if ne ($seeing.kind | default "") "image" -}}
{{- include "cloister.fault" (dict "what" (printf "retriever.imageModel %q is not an image model of embedder.models." .) "why" "Pictures and questions about them must be embedded by one and the same CLIP model." "mend" "Add it to embedder.models with kind: image and a folder, or leave it empty.") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Ports, certificates and addresses stand in Services, probes and policies too: a setting alone would break them. */}}
{{- define "cloister.validate.config" -}}
{{- $levels := dict "gateway" .Values.gateway.logLevel "embedder" .Values.embedder.logLevel "retriever" .Values.retriever.logLevel -}}
{{- range $key, $_ := .Values.llm.models -}}
{{- $_ := set $levels (printf "llm.models.%s" $key) (include "cloister.llm.model" (dict "root" $ "key" $key) | fromYaml).logLevel -}}
{{- end -}}
{{- range $name, $level := $levels -}}
{{- if not (has $level (list "" "debug" "info" "warning" "error")) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.logLevel is %q." $name $level) "why" "Its pods would refuse to start with a level that there is not." "mend" "Set it to debug, info, warning or error, or leave it empty for logLevel.") -}}
{{- end -}}
{{- end -}}
{{- $sections := dict "gateway.config" .Values.gateway.config "embedder.config" .Values.embedder.config "retriever.config" .Values.retriever.config "llm.modelDefaults.config" .Values.llm.modelDefaults.config -}}
{{- range $key, $model := .Values.llm.models -}}
{{- $_ := set $sections (printf "llm.models.%s.config" $key) ($model.config | default dict) -}}
{{- end -}}
{{- range $name, $config := $sections -}}
{{- range $group := $.Files.Get "files/owned-settings.yaml" | fromYamlArray -}}
{{- range $setting := $group.settings -}}
{{- $path := splitList "." $setting -}}
{{- $place := $config -}}
{{- range initial $path -}}{{- $place = index $place . | default dict -}}{{- end -}}
{{- if hasKey $place (last $path) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.%s is set." $name $setting) "why" $group.why "mend" $group.mend) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A Secret of yours must not have the name of the chart's: Helm would delete the one, or refuse the other. */}}
{{- define "cloister.validate.secrets" -}}
{{- range $suffix, $entry := dict "vault" (list "vault.rootKeySecret" .Values.vault.rootKeySecret) "identity" (list "gateway.pepperSecret" .Values.gateway.pepperSecret) "embedder-token" (list "embedder.tokenSecret" .Values.embedder.tokenSecret) "retriever-token" (list "retriever.tokenSecret" .Values.retriever.tokenSecret) "llm-token" (list "llm.tokenSecret" .Values.llm.tokenSecret) "redis-auth" (list "redis.external.passwordSecret" .Values.redis.external.passwordSecret) "milvus-auth" (list "milvus.external.passwordSecret" .Values.milvus.external.passwordSecret) "gateway-tls" (list "gateway.tls.secretName" (dict "name" .Values.gateway.tls.secretName)) -}}
{{- if eq (last $entry).name (include "cloister.name" (dict "root" $ "part" $suffix)) -}}
{{- include "cloister.fault" (dict "what" (printf "%s is %s, as the chart calls the one it makes itself." (first $entry) (last $entry).name) "why" "Helm deletes its own where it is not to make it any more, and refuses one that others made under that name." "mend" "Give yours another name, or leave the value empty for the chart's.") -}}
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
