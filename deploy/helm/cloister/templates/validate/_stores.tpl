{{/* Where state is: one place for each kind of it, reachable, and closed to whoever listens on the way. */}}

{{- define "cloister.validate.stores" -}}
{{- include "cloister.validate.one" . -}}
{{- include "cloister.validate.adapters" . -}}
{{- if not .Values.redis.bundled -}}
{{- with .Values.redis.external -}}
{{- $urls := concat (compact (list .url)) .sentinel.urls .cluster.urls -}}
{{- $given := compact (list (empty .url | ternary "" "url") (empty .sentinel.urls | ternary "" "sentinel.urls") (empty .cluster.urls | ternary "" "cluster.urls")) -}}
{{- if not $given -}}
{{- include "cloister.fault" (dict "what" "redis.bundled is false and redis.external.url is empty, as are sentinel.urls and cluster.urls." "why" "The gateway keeps all its state in Redis." "mend" "Set redis.external.url to rediss://host:port/db, or redis.bundled=true.") -}}
{{- end -}}
{{- if gt (len $given) 1 -}}
{{- include "cloister.fault" (dict "what" (printf "redis.external has %s." (join " and " $given)) "why" "They are different ways to find one Redis, and one of them would be left alone without a word." "mend" "Leave all but one of them empty.") -}}
{{- end -}}
{{- if and .sentinel.urls (not .sentinel.service) -}}
{{- include "cloister.fault" (dict "what" "redis.external.sentinel.urls is set and sentinel.service is empty." "why" "Sentinels watch several Redis, each by its name." "mend" "Set redis.external.sentinel.service to the name in their `sentinel monitor`.") -}}
{{- end -}}
{{- if and .username (not .passwordSecret.name) -}}
{{- include "cloister.fault" (dict "what" "redis.external.username is set and passwordSecret.name is empty." "why" "Redis knows a user by name and password together." "mend" "Set redis.external.passwordSecret.name, or no username for Redis's default user.") -}}
{{- end -}}
{{- range $url := $urls -}}
{{- if hasPrefix "redis:" $url -}}
{{- $name := ternary "url" (first $given) (eq $url $.Values.redis.external.url) -}}
{{- if $.Values.redis.external.caSecret.name -}}
{{- include "cloister.fault" (dict "what" (printf "redis.external.caSecret.name is set and redis.external.%s begins with redis://." $name) "why" "Without TLS there is no certificate to check: what looks protected would cross the network in clear." "mend" "Use rediss://, or leave caSecret.name empty.") -}}
{{- end -}}
{{- if $.Values.tls.enabled -}}
{{- include "cloister.fault" (dict "what" (printf "redis.external.%s begins with redis:// while tls.enabled is true." $name) "why" "The password and all that is stored would cross the network in clear." "mend" "Use rediss://, or set tls.enabled=false where a mesh encrypts.") -}}
{{- end -}}
{{- end -}}
{{- end -}}
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
{{- if and (or .caSecret.name .serverName) (hasPrefix "http:" .uri) -}}
{{- include "cloister.fault" (dict "what" "milvus.external.caSecret.name or serverName is set and milvus.external.uri begins with http://." "why" "Without TLS there is no certificate to check: what looks protected would cross the network in clear." "mend" "Use https://, or leave both empty.") -}}
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
{{- include "cloister.validate.bucket" (dict "root" . "name" "blobs.s3" "section" .Values.blobs.s3) -}}
{{- else if eq .Values.blobs.volume.accessMode "ReadWriteOnce" -}}
{{- if or .Values.retriever.ingest.separate .Values.retriever.autoscaling.enabled (gt (int .Values.retriever.replicas) 1) -}}
{{- include "cloister.fault" (dict "what" "Several retriever pods share a ReadWriteOnce volume." "why" "Pods on another node could not mount it and would hang at their start." "mend" "Set blobs.type=s3, or blobs.volume.accessMode=ReadWriteMany with a StorageClass that can.") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* cloister.validate.bucket: the way to a bucket. Takes root, name and section. */}}
{{- define "cloister.validate.bucket" -}}
{{- $name := .name -}}
{{- if and .root.Values.tls.enabled (hasPrefix "http:" .section.endpoint) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.endpoint begins with http:// while tls.enabled is true." $name) "why" "The access key's signatures and all that is stored would cross the network in clear." "mend" "Use https://, or set tls.enabled=false where a mesh encrypts.") -}}
{{- end -}}
{{- with .section -}}
{{- if and .caSecret.name (hasPrefix "http:" .endpoint) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.caSecret.name is set and %s.endpoint begins with http://." $name $name) "why" "Without TLS there is no certificate to check: what looks protected would cross the network in clear." "mend" "Use https://, or leave caSecret.name empty.") -}}
{{- end -}}
{{- if eq .credentialsSecret.accessKeyIdKey .credentialsSecret.secretAccessKeyKey -}}
{{- include "cloister.fault" (dict "what" (printf "%s.credentialsSecret: accessKeyIdKey and secretAccessKeyKey are the same." $name) "why" "The one is a name and the other a secret." "mend" "Name the keys of the Secret that hold each.") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* cloister.validate.adapters: where a model's adapters lie is said once. */}}
{{- define "cloister.validate.adapters" -}}
{{- range $key, $_ := .Values.llm.models -}}
{{- $adapters := (include "cloister.llm.model" (dict "root" $ "key" $key) | fromYaml).adapters -}}
{{- $name := printf "llm.models.%s.adapters" $key -}}
{{- if $adapters.s3.url -}}
{{- if $adapters.claim -}}
{{- include "cloister.fault" (dict "what" (printf "%s has a claim and s3.url." $name) "why" "Adapters lie in one of them, and the other would be left alone without a word." "mend" (printf "Leave %s.claim or %s.s3.url empty." $name $name)) -}}
{{- end -}}
{{- include "cloister.validate.bucket" (dict "root" $ "name" (printf "%s.s3" $name) "section" $adapters.s3) -}}
{{- else -}}
{{- with $adapters.s3 -}}
{{- range $field, $value := dict "endpoint" .endpoint "region" .region "credentialsSecret.name" .credentialsSecret.name "caSecret.name" .caSecret.name "peers" .peers -}}
{{- if $value -}}
{{- include "cloister.fault" (dict "what" (printf "%s.s3.%s is set and %s.s3.url is empty." $name $field $name) "why" "Nothing would be read from your object store." "mend" (printf "Set %s.s3.url to s3://bucket/prefix, or leave %s.s3 empty." $name $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Each kind of state is in one place: a store of yours beside the chart's own leaves open which of them is meant. */}}
{{- define "cloister.validate.one" -}}
{{- $redis := dict "url" .Values.redis.external.url "sentinel.urls" .Values.redis.external.sentinel.urls "cluster.urls" .Values.redis.external.cluster.urls "replicasToWait" .Values.redis.external.replicasToWait "username" .Values.redis.external.username "passwordSecret.name" .Values.redis.external.passwordSecret.name "caSecret.name" .Values.redis.external.caSecret.name "peers" .Values.redis.external.peers -}}
{{- $milvus := dict "uri" .Values.milvus.external.uri "user" .Values.milvus.external.user "passwordSecret.name" .Values.milvus.external.passwordSecret.name "database" .Values.milvus.external.database "caSecret.name" .Values.milvus.external.caSecret.name "serverName" .Values.milvus.external.serverName "peers" .Values.milvus.external.peers -}}
{{- range $part, $external := dict "redis" $redis "milvus" $milvus -}}
{{- if (index $.Values $part).bundled -}}
{{- range $name, $value := $external -}}
{{- if $value -}}
{{- include "cloister.fault" (dict "what" (printf "%s.external.%s is set while %s.bundled is true." $part $name $part) "why" "The bundled one would be used, empty, and yours be left alone without a word." "mend" (printf "Set %s.bundled=false to use yours, or leave %s.external empty." $part $part)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.blobs -}}
{{- if eq .type "volume" -}}
{{- range $name, $value := dict "url" .s3.url "endpoint" .s3.endpoint "region" .s3.region "credentialsSecret.name" .s3.credentialsSecret.name "caSecret.name" .s3.caSecret.name "peers" .s3.peers -}}
{{- if $value -}}
{{- include "cloister.fault" (dict "what" (printf "blobs.s3.%s is set while blobs.type is volume." $name) "why" "Files would go onto the volume, and none into your object store." "mend" "Set blobs.type=s3 to use it, or leave blobs.s3 empty.") -}}
{{- end -}}
{{- end -}}
{{- else if .volume.existingClaim -}}
{{- include "cloister.fault" (dict "what" "blobs.volume.existingClaim is set while blobs.type is s3." "why" "Files would go into the object store, and those on the claim would not be found." "mend" "Set blobs.type=volume to use it, or leave the claim empty.") -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.retriever.ingest.separate) (gt (int .Values.retriever.ingest.replicas) 1) -}}
{{- include "cloister.fault" (dict "what" "retriever.ingest.replicas is over 1 while retriever.ingest.separate is false." "why" "Without pods of its own the retriever ingests where it answers, and these would never be made." "mend" "Set retriever.ingest.separate=true, or leave the number out.") -}}
{{- end -}}
{{- end -}}
