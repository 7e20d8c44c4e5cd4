{{/*
Secrets: one that exists (its name given in the values), else generated once. `lookup` finds what an earlier
install or upgrade made, so a value never changes under a running system. `helm template` and GitOps tools that
render without the cluster cannot look up: give existing Secrets there.
*/}}

{{/* cloister.secret.kept: a key of the Secret as the cluster has it, base64, or nothing. Takes root, name, key. */}}
{{- define "cloister.secret.kept" -}}
{{- $secret := lookup "v1" "Secret" .root.Release.Namespace .name -}}
{{- if $secret -}}
{{- index ($secret.data | default dict) .key | default "" -}}
{{- end -}}
{{- end -}}

{{/*
cloister.secret.generated: one Secret with one random key. Takes root, part, key, and of the Secrets that data depends
on: keep, it outlives the release; immutable, nothing can write another value over it.
*/}}
{{- define "cloister.secret.generated" -}}
{{- $name := include "cloister.name" . -}}
{{- $value := include "cloister.secret.kept" (dict "root" .root "name" $name "key" .key) -}}
{{- if and (not $value) .keep (lookup "v1" "Secret" .root.Release.Namespace $name) -}}
{{- include "cloister.fault" (dict "what" (printf "The Secret %s has no key %s." $name .key) "why" "A new random value would make what depends on the old one unreadable." "mend" "Leave the name of the key as it was when the Secret was made, or bring the Secret back from your backup.") -}}
{{- end -}}
{{- if not $value -}}
{{- $value = randBytes 32 | b64dec | printf "%x" | b64enc -}}
{{- end -}}
apiVersion: v1
kind: Secret
metadata:
  {{- include "cloister.meta" . | nindent 2 }}
  {{- if .keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
type: Opaque
{{- if .immutable }}
immutable: true
{{- end }}
data:
  {{ .key }}: {{ $value }}
{{- end -}}

{{/* cloister.bucket.sources: what a part may read to open a bucket. Takes its section. */}}
{{- define "cloister.bucket.sources" -}}
{{ include "cloister.secret.source" (dict "ref" .credentialsSecret "key" .credentialsSecret.accessKeyIdKey "path" "s3-access-key-id") }}
{{ include "cloister.secret.source" (dict "ref" .credentialsSecret "key" .credentialsSecret.secretAccessKeyKey "path" "s3-secret-access-key") }}
{{ include "cloister.secret.source" (dict "ref" .caSecret "path" "s3-ca.crt") }}
{{- end -}}
