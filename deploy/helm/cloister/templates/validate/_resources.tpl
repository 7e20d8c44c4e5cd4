{{/*
Sizes: what Kubernetes would refuse in the middle of an install, what could never be scheduled, and what a kernel would
kill. Kubernetes compares quantities as numbers, so they are compared as numbers here.
*/}}

{{/* cloister.number: a Kubernetes quantity ("250m", "1.5Gi", 2) as a plain number. */}}
{{- define "cloister.number" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- $factors := dict "" 1 "m" 0.001 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (trimSuffix $unit $text | float64) (get $factors $unit) -}}
{{- end -}}

{{/* cloister.redis.bytes: redis.maxMemory, whose kb, mb and gb are powers of 1024, as a plain number. */}}
{{- define "cloister.redis.bytes" -}}
{{- include "cloister.number" (.Values.redis.maxMemory | replace "kb" "Ki" | replace "mb" "Mi" | replace "gb" "Gi") -}}
{{- end -}}

{{/* cloister.validate.pods: the sections whose `resources` a pod has, by their names in the values, as YAML. */}}
{{- define "cloister.validate.pods" -}}
{{- $pods := dict "gateway" .Values.gateway "embedder" .Values.embedder "retriever" .Values.retriever -}}
{{- if .Values.retriever.ingest.separate -}}{{- $_ := set $pods "retriever.ingest" .Values.retriever.ingest -}}{{- end -}}
{{- if .Values.redis.bundled -}}{{- $_ := set $pods "redis" .Values.redis -}}{{- end -}}
{{- if .Values.milvus.bundled -}}{{- $_ := set $pods "milvus" .Values.milvus -}}{{- end -}}
{{- range $key, $_ := .Values.llm.models -}}
{{- $_ := set $pods (printf "llm.models.%s" $key) (include "cloister.llm.model" (dict "root" $ "key" $key) | fromYaml) -}}
{{- end -}}
{{- toYaml $pods -}}
{{- end -}}

{{- define "cloister.validate.resources" -}}
{{- range $name, $section := include "cloister.validate.pods" . | fromYaml -}}
{{- $requests := dig "resources" "requests" dict $section | default dict -}}
{{- $limits := dig "resources" "limits" dict $section | default dict -}}
{{- if not (hasKey $limits "memory") -}}
{{- include "cloister.fault" (dict "what" (printf "%s.resources.limits has no memory." $name) "why" "One pod that grows would take the whole node with it." "mend" (printf "Set %s.resources.limits.memory." $name)) -}}
{{- end -}}
{{- range $kind, $amounts := dict "requests" $requests "limits" $limits -}}
{{- range $resource, $amount := $amounts -}}
{{- $number := include "cloister.number" $amount | float64 -}}
{{- if and (eq $resource "memory") (lt $number 16777216.0) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.resources.%s.memory is %v." $name $kind $amount) "why" "That is too little to start a process in; memory is counted in bytes, and m means a thousandth of one." "mend" "Write Mi or Gi after the number, such as 512Mi.") -}}
{{- else if le $number 0.0 -}}
{{- include "cloister.fault" (dict "what" (printf "%s.resources.%s.%s is %v." $name $kind $resource $amount) "why" "Nothing runs on none of it, and Kubernetes takes a zero for no bound." "mend" "Give it some, or leave it out.") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $resource, $request := $requests -}}
{{- if hasKey $limits $resource -}}
{{- if gt (include "cloister.number" $request | float64) (include "cloister.number" (get $limits $resource) | float64) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.resources.requests.%s (%v) is over limits.%s (%v)." $name $resource $request $resource (get $limits $resource)) "why" "Kubernetes refuses such a pod in the middle of the install." "mend" (printf "Raise %s.resources.limits.%s, or lower the request." $name $resource)) -}}
{{- end -}}
{{- end -}}
{{- if contains "/" $resource -}}
{{- if ne (toString $request) (toString (get $limits $resource)) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.resources.requests.%s is not what limits.%s is." $name $resource $resource) "why" "Kubernetes gives devices whole: it refuses a pod whose request for one differs from its limit." "mend" (printf "Name %s under limits only." $resource)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (dig "autoscaling" "enabled" false $section) (not (or (hasKey $requests "cpu") (hasKey $limits "cpu"))) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.autoscaling.enabled without %s.resources.requests.cpu." $name $name) "why" "The autoscaler steers by the share of the request that is used, and would never change anything." "mend" (printf "Set %s.resources.requests.cpu." $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Memory and room that several values share. */}}
{{- define "cloister.validate.memory" -}}
{{- if .Values.redis.bundled -}}
{{- $data := include "cloister.redis.bytes" . | float64 -}}
{{- $limit := .Values.redis.resources.limits.memory -}}
{{- if le $data 0.0 -}}
{{- include "cloister.fault" (dict "what" (printf "redis.maxMemory is %s." .Values.redis.maxMemory) "why" "Redis takes that for no bound, grows until the kernel kills it, and does so again with each start." "mend" "Set redis.maxMemory to half of redis.resources.limits.memory.") -}}
{{- end -}}
{{- if gt (mulf 2 $data) (include "cloister.number" $limit | float64) -}}
{{- include "cloister.fault" (dict "what" (printf "redis.maxMemory (%s) is over half of redis.resources.limits.memory (%v)." .Values.redis.maxMemory $limit) "why" "While Redis rewrites its append-only file it may need twice its data: the kernel would kill it where it should refuse writes." "mend" "Raise redis.resources.limits.memory to twice redis.maxMemory, or lower redis.maxMemory.") -}}
{{- end -}}
{{- if gt (mulf 2 $data) (include "cloister.number" .Values.redis.storage.size | float64) -}}
{{- include "cloister.fault" (dict "what" (printf "redis.storage.size (%s) is under twice redis.maxMemory (%s)." .Values.redis.storage.size .Values.redis.maxMemory) "why" "The append-only file and its rewritten successor lie there side by side; on a full volume Redis takes no writes." "mend" "Raise redis.storage.size, or lower redis.maxMemory.") -}}
{{- end -}}
{{- end -}}
{{- $sizes := dict "embedder.weights.size" .Values.embedder.weights.size "retriever.tmpSize" .Values.retriever.tmpSize "blobs.volume.size" .Values.blobs.volume.size "redis.storage.size" .Values.redis.storage.size "milvus.storage.size" .Values.milvus.storage.size -}}
{{- range $key, $_ := .Values.llm.models -}}
{{- $model := include "cloister.llm.model" (dict "root" $ "key" $key) | fromYaml -}}
{{- $name := printf "llm.models.%s" $key -}}
{{- $_ := set $sizes (printf "%s.weights.size" $name) $model.weights.size -}}
{{- $_ := set $sizes (printf "%s.sharedMemory" $name) $model.sharedMemory -}}
{{- $_ := set $sizes (printf "%s.tmpSize" $name) $model.tmpSize -}}
{{- $limit := include "cloister.number" $model.resources.limits.memory | float64 -}}
{{- if ge (include "cloister.number" $model.sharedMemory | float64) $limit -}}
{{- include "cloister.fault" (dict "what" (printf "%s.sharedMemory (%s) is not under resources.limits.memory (%v)." $name $model.sharedMemory $model.resources.limits.memory) "why" "Shared memory counts as the pod's memory: the kernel would kill it before that is full." "mend" (printf "Lower %s.sharedMemory, or raise the limit." $name)) -}}
{{- end -}}
{{- $cache := dig "engine" "kv_cache_gib" nil $model.config -}}
{{- if and $cache (gt (int $model.gpus) 0) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.config.engine.kv_cache_gib is set and gpus is %d." $name (int $model.gpus)) "why" "The cache is in the memory of the GPUs, and the pod would refuse to start." "mend" "Leave it out; engine.gpu_memory_utilization says how much of a GPU is used.") -}}
{{- end -}}
{{- if and (eq (int $model.gpus) 0) (ge (mulf 1073741824 ($cache | default 4 | float64)) $limit) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.config.engine.kv_cache_gib (%v, 4 where it is left out) is not under resources.limits.memory (%v)." $name ($cache | default "unset") $model.resources.limits.memory) "why" "The cache alone would fill the pod, without the model." "mend" (printf "Lower it, or raise %s.resources.limits.memory; `python -m cloister_llm plan` says what is needed." $name)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $size := $sizes -}}
{{- if le (include "cloister.number" $size | float64) 0.0 -}}
{{- include "cloister.fault" (dict "what" (printf "%s is %s." $name $size) "why" "Nothing fits into it, or Kubernetes takes it for no bound." "mend" (printf "Set %s to what is needed, such as 2Gi." $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
