{{/* cloister.test.meta: an object that exists while `helm test` runs. Takes root, name, weight, and always: it goes after a failure too. */}}
{{- define "cloister.test.meta" -}}
name: {{ include "cloister.name" (dict "root" .root "part" .name) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "cloister.labels" (dict "root" .root "part" "test") | nindent 2 }}
annotations:
  helm.sh/hook: test
  helm.sh/hook-weight: {{ .weight | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded{{ if .always }},hook-failed{{ end }}
{{- end -}}
