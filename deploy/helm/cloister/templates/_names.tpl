{{/* Names, labels and images: how every object of the chart is called and found. */}}

{{/*
cloister.fullname: the prefix of all names; the release's own name where that already says "cloister". At most 27
characters: with "-llm-" and a model's key of 20 that makes 52, the longest name of a StatefulSet whose pods can be
labelled with its revision (kubernetes/kubernetes#64023).
*/}}
{{- define "cloister.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 27 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 27 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 27 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* cloister.name: the name of one part. Takes (dict "root" $ "part" "gateway"). */}}
{{- define "cloister.name" -}}
{{- printf "%s-%s" (include "cloister.fullname" .root) .part | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* cloister.host: a part's name inside the cluster, complete, so that no resolver has to try suffixes. */}}
{{- define "cloister.host" -}}
{{- printf "%s.%s.svc.%s" (include "cloister.name" .) .root.Release.Namespace .root.Values.clusterDomain -}}
{{- end -}}

{{/* cloister.scheme: http or https, the same between all parts. */}}
{{- define "cloister.scheme" -}}
{{- ternary "https" "http" .Values.tls.enabled -}}
{{- end -}}

{{/* cloister.selector: the labels that find the pods of one part, and never change. A model's pods carry its key. */}}
{{- define "cloister.selector" -}}
app.kubernetes.io/name: {{ .root.Values.nameOverride | default .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component | default .part }}
{{- with .model }}
cloister/model: {{ . }}
{{- end }}
{{- end -}}

{{/* cloister.labels: what every object carries. */}}
{{- define "cloister.labels" -}}
{{ include "cloister.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: cloister
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* cloister.podLabels: what pods carry. Not the chart's version: a new chart alone should not restart a model. */}}
{{- define "cloister.podLabels" -}}
{{ include "cloister.selector" . }}
app.kubernetes.io/part-of: cloister
{{- end -}}

{{/* cloister.meta: name, namespace and labels of an object. Takes root, part, and name where it is not the part's. */}}
{{- define "cloister.meta" -}}
name: {{ .name | default (include "cloister.name" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "cloister.labels" . | nindent 2 }}
{{- end -}}

{{/* cloister.image: a complete image reference. Takes root and image {registry, repository, tag, digest}. */}}
{{- define "cloister.image" -}}
{{- $registry := .image.registry | default .root.Values.image.registry -}}
{{- $tag := .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion -}}
{{- $reference := printf "%s/%s:%s" $registry .image.repository $tag -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $reference .image.digest -}}
{{- else -}}
{{- $reference -}}
{{- end -}}
{{- end -}}
