{{/* Who gets in and out: network policies, certificates, Ingress and routes. */}}

{{- define "cloister.validate.network" -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $outside := dict "networkPolicy.dns" .Values.networkPolicy.dns -}}
{{- if not .Values.redis.bundled -}}{{- $_ := set $outside "redis.external" .Values.redis.external -}}{{- end -}}
{{- if not .Values.milvus.bundled -}}{{- $_ := set $outside "milvus.external" .Values.milvus.external -}}{{- end -}}
{{- if eq .Values.blobs.type "s3" -}}{{- $_ := set $outside "blobs.s3" .Values.blobs.s3 -}}{{- end -}}
{{- if eq .Values.llm.discovery.kind "kubernetes" -}}{{- $_ := set $outside "llm.discovery" .Values.llm.discovery -}}{{- end -}}
{{- range $key, $_ := .Values.llm.models -}}
{{- $bucket := (include "cloister.llm.model" (dict "root" $ "key" $key) | fromYaml).adapters.s3 -}}
{{- $name := printf "llm.models.%s.adapters.s3" $key -}}
{{- if $bucket.url -}}{{- $_ := set $outside $name $bucket -}}{{- end -}}
{{- include "cloister.validate.port" (dict "name" $name "section" $bucket "address" $bucket.endpoint "used" (not (empty $bucket.url)) "default" (ternary 80 443 (hasPrefix "http:" $bucket.endpoint))) -}}
{{- end -}}
{{- range $name, $section := $outside -}}
{{- if not $section.peers -}}
{{- include "cloister.fault" (dict "what" (printf "%s.peers is empty." $name) "why" "The network policies would keep the pods from it." "mend" "Name where it is, as NetworkPolicy peers: a namespaceSelector, or an ipBlock such as 10.20.0.0/24.") -}}
{{- end -}}
{{- range $peer := $section.peers -}}
{{- if hasSuffix "/0" (dig "ipBlock" "cidr" "" $peer) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.peers opens the whole internet." $name) "why" "No part of Cloister has a route out: what leaves cannot be called back." "mend" "Name its own addresses, such as 10.20.0.0/24.") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.redis.external -}}
{{- range $address := concat (list .url) .cluster.urls -}}
{{- include "cloister.validate.port" (dict "name" "redis.external" "section" $.Values.redis.external "address" $address "used" (not $.Values.redis.bundled) "default" 6379) -}}
{{- end -}}
{{- range $address := .sentinel.urls -}}
{{- include "cloister.validate.port" (dict "name" "redis.external" "section" $.Values.redis.external "address" $address "used" (not $.Values.redis.bundled) "default" 26379) -}}
{{- end -}}
{{- end -}}
{{- include "cloister.validate.port" (dict "name" "milvus.external" "section" .Values.milvus.external "address" .Values.milvus.external.uri "used" (not .Values.milvus.bundled)) -}}
{{- include "cloister.validate.port" (dict "name" "blobs.s3" "section" .Values.blobs.s3 "address" .Values.blobs.s3.endpoint "used" (eq .Values.blobs.type "s3") "default" (ternary 80 443 (hasPrefix "http:" .Values.blobs.s3.endpoint))) -}}
{{- end -}}
{{- end -}}

{{/*
cloister.validate.port: an address whose port its own policy closes. Only where the store is named by addresses: policies
see the port of a pod, and a Service before it may have another. Takes name, section, address, used and default.
*/}}
{{- define "cloister.validate.port" -}}
{{- $port := regexFind ":[0-9]+(/|$)" .address | trimAll ":/" | default .default -}}
{{- $named := true -}}
{{- range .section.peers -}}{{- $named = and $named (hasKey . "ipBlock") -}}{{- end -}}
{{- if and .used .address $port $named (not (has (toString $port) (toStrings .section.ports))) -}}
{{- include "cloister.fault" (dict "what" (printf "%s.ports does not have %v, the port of its address." .name $port) "why" "The network policies would keep the pods from it." "mend" (printf "Set %s.ports to [%v]." .name $port)) -}}
{{- end -}}
{{- end -}}

{{- define "cloister.validate.doors" -}}
{{- with .Values.gateway.ingress -}}
{{- if and .enabled (or (not .host) (not .tlsSecretName)) -}}
{{- include "cloister.fault" (dict "what" "gateway.ingress.enabled without a host or a tlsSecretName." "why" "API keys would cross the network in clear, or every host name would lead here." "mend" "Set gateway.ingress.host and gateway.ingress.tlsSecretName.") -}}
{{- end -}}
{{- end -}}
{{- if not .Values.tls.enabled -}}
{{- range $name, $value := dict "gateway.tls.secretName" .Values.gateway.tls.secretName "gateway.tls.extraDnsNames" .Values.gateway.tls.extraDnsNames "gateway.route.caConfigMap" .Values.gateway.route.caConfigMap "tls.certManager.issuerRef.name" .Values.tls.certManager.issuerRef.name -}}
{{- if $value -}}
{{- include "cloister.fault" (dict "what" (printf "%s is set while tls.enabled is false." $name) "why" "Nobody would show or check that certificate: what looks protected would cross the network in clear." "mend" (printf "Set tls.enabled=true, or leave %s empty where a mesh encrypts." $name)) -}}
{{- end -}}
{{- end -}}
{{- else if and (eq .Values.tls.issuer "chart") .Values.tls.certManager.issuerRef.name -}}
{{- include "cloister.fault" (dict "what" "tls.certManager.issuerRef.name is set while tls.issuer is chart." "why" "The chart's own CA would sign, and your issuer be left alone without a word." "mend" "Set tls.issuer=cert-manager, or leave the name empty.") -}}
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
