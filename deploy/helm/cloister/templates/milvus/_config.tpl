{{/*
cloister.milvus.proxy: Milvus Lite's server knows neither TLS nor passwords, so it listens on the pod's loopback
only and this HAProxy stands before it: TLS, and the user and password that Milvus clients send as gRPC metadata.
*/}}
{{- define "cloister.milvus.proxy" -}}
{{- $address := ternary (printf "[%s]" .Values.listenAddress) .Values.listenAddress (contains ":" .Values.listenAddress) -}}
global
    maxconn 512
    {{- if .Values.tls.enabled }}
    # tls.key lies beside tls.crt, as Kubernetes names them.
    ssl-load-extra-del-ext
    ssl-default-bind-options ssl-min-ver TLSv1.3
    {{- end }}

defaults
    mode http
    timeout connect 5s
    # A gRPC channel stays open between calls.
    timeout client 1h
    timeout server 1h
    timeout http-request 30s

frontend milvus
    {{- if .Values.tls.enabled }}
    bind {{ $address }}:19530 ssl crt /run/cloister/tls/tls.crt alpn h2
    {{- else }}
    bind {{ $address }}:19530 proto h2
    {{- end }}
    http-request deny deny_status 401 unless { req.hdr(authorization) -m str -f /run/cloister/secrets/authorization }
    default_backend lite

frontend health
    bind {{ $address }}:8404
    monitor-uri /readyz
    monitor fail if { nbsrv(lite) lt 1 }

backend lite
    server lite 127.0.0.1:19531 proto h2 check inter 2s downinter 500ms fastinter 500ms
{{- end -}}
