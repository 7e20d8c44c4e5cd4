{{/* cloister.redis.conf: every write is on disk before it is acknowledged, and nothing is evicted. */}}
{{- define "cloister.redis.conf" -}}
{{- if .Values.tls.enabled -}}
port 0
tls-port 6379
tls-protocols "TLSv1.3"
tls-auth-clients no
tls-cert-file /run/cloister/tls/tls.crt
tls-key-file /run/cloister/tls/tls.key
{{- else -}}
port 6379
{{- end }}
protected-mode no
aclfile /run/cloister/secrets/users.acl
dir /data
appendonly yes
appendfsync always
save ""
maxmemory {{ .Values.redis.maxMemory }}
maxmemory-policy noeviction
{{- end -}}

{{/* cloister.redis.ping: what the probes run. While the append-only file is being read the answer is not PONG. */}}
{{- define "cloister.redis.ping" -}}
REDISCLI_AUTH=$(cat /run/cloister/secrets/watch-password) redis-cli --no-auth-warning --user watch
{{- if .Values.tls.enabled }} --tls --cacert /run/cloister/secrets/redis-ca.crt -h localhost{{ end }} ping | grep -q PONG
{{- end -}}
