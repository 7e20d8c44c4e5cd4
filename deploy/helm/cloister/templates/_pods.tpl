{{/* What all pods have in common. Security is template code: no value can weaken it. */}}

{{/* cloister.podDefaults: the head of every pod's spec. Takes root, part, values (the part's own), and account if it has one. */}}
{{- define "cloister.podDefaults" -}}
serviceAccountName: {{ .account | default (include "cloister.fullname" .root) }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.scheduling }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "cloister.selector" . | nindent 8 }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "cloister.selector" . | nindent 8 }}
{{- end -}}

{{/* cloister.containerSecurity: the restricted Pod Security Standard, and a root file system that cannot be written. */}}
{{- define "cloister.containerSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/*
cloister.containerDefaults: image, pull policy, security, resources and a home. Takes root, image and resources.
Services read no environment; HOME is for libraries that keep a cache, and /tmp is all they may write to.
*/}}
{{- define "cloister.containerDefaults" -}}
image: {{ include "cloister.image" . }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- include "cloister.containerSecurity" . | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
env:
  - name: HOME
    value: /tmp
{{- end -}}

{{/*
cloister.probes: how the kubelet knows a service of ours. Takes root, startupSeconds, and path where it is one of the API.
Without one it is /livez of the metrics port, which has a thread and connections of its own: a pod that is busy, or has
all the connections it may have, must neither be killed nor hand its callers on to the next. A pod gets traffic while it works itself, whatever becomes of the parts it calls: one that is down should be an error
in an answer, not a closed door. What /readyz says of them is for people, and for the chart's test. Loading a model
takes minutes, so liveness is not asked before the start has succeeded; whether it has is asked often, since people may
wait for it.
*/}}
{{- define "cloister.probes" -}}
{{- $scheme := include "cloister.scheme" .root | upper -}}
{{- range $probe, $times := dict "startupProbe" (list 2 3 (div (add (int .startupSeconds) 1) 2)) "livenessProbe" (list 10 10 12) "readinessProbe" (list 5 5 2) }}
{{ $probe }}:
  httpGet:
    path: {{ $.path | default "/livez" }}
    port: {{ ternary "api" "metrics" (hasKey $ "path") }}
    scheme: {{ ternary $scheme "HTTP" (hasKey $ "path") }}
  periodSeconds: {{ index $times 0 }}
  timeoutSeconds: {{ index $times 1 }}
  failureThreshold: {{ index $times 2 }}
{{- end }}
{{- end -}}

{{/*
cloister.drain: the pod leaves the Service's endpoints first, then gets SIGTERM. Five seconds are enough for
every node's proxy to hear of it; uvicorn would close its sockets at once.
*/}}
{{- define "cloister.drain" -}}
lifecycle:
  preStop:
    exec:
      command: [sleep, "5"]
{{- end -}}

{{/*
cloister.graceSeconds: preStop, then the service's own shutdown_seconds, then what it needs after that: five seconds to
write its last line, or, for vLLM's engine to end, twenty. Takes config, and after where it is not five.
*/}}
{{- define "cloister.graceSeconds" -}}
{{- add 5 (ceil (dig "server" "shutdown_seconds" 20 .config) | int) (.after | default 5) -}}
{{- end -}}

{{/* cloister.ports: the two ports of a service of ours. */}}
{{- define "cloister.ports" -}}
ports:
  - name: api
    containerPort: {{ .api }}
    protocol: TCP
  - name: metrics
    containerPort: {{ .metrics }}
    protocol: TCP
{{- end -}}

{{/*
cloister.secret.source: one key of one Secret in the projected volume of a pod. Takes root, path, and where it comes
from: ref {name, key}, an entry of the values; suffix, the chart's own Secret, used where ref names none. A ref that
names none, without a suffix, renders nothing. key stands in for the ref's.
*/}}
{{- define "cloister.secret.source" -}}
{{- $ref := .ref | default dict -}}
{{- $name := $ref.name -}}
{{- if and .suffix (not $name) -}}
{{- $name = include "cloister.name" (dict "root" .root "part" .suffix) -}}
{{- end -}}
{{- if $name -}}
- secret:
    name: {{ $name }}
    items:
      - key: {{ .key | default $ref.key }}
        path: {{ .path }}
{{- end -}}
{{- end -}}

{{/* cloister.token.source: the internal token of a part, as PART-token. Takes root and part. */}}
{{- define "cloister.token.source" -}}
{{- $name := printf "%s-token" .part -}}
{{- include "cloister.secret.source" (dict "root" .root "ref" (index .root.Values .part).tokenSecret "suffix" $name "path" $name) -}}
{{- end -}}

{{/* cloister.ca.source: the CA that signed a part's certificate, as PART-ca.crt. Takes root and part. */}}
{{- define "cloister.ca.source" -}}
{{- if .root.Values.tls.enabled -}}
{{- include "cloister.secret.source" (dict "root" .root "suffix" (printf "%s-tls" .part) "key" "ca.crt" "path" (printf "%s-ca.crt" .part)) -}}
{{- end -}}
{{- end -}}

{{/* cloister.commonVolumes: the settings, the part's own certificate and a /tmp. Takes root, part, config (name), tmp (size). */}}
{{- define "cloister.commonVolumes" -}}
- name: config
  configMap:
    name: {{ .config }}
{{- if .root.Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ .certificate }}
    defaultMode: 0440
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .tmp | default "256Mi" }}
{{- end -}}

{{/* cloister.commonMounts: where the above are. */}}
{{- define "cloister.commonMounts" -}}
- name: config
  mountPath: /run/cloister/config
  readOnly: true
{{- if .root.Values.tls.enabled }}
- name: tls
  mountPath: /run/cloister/tls
  readOnly: true
{{- end }}
- name: secrets
  mountPath: /run/cloister/secrets
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end -}}

{{/* cloister.fetchWeights: the init container that carries model weights into the pod. Takes root and folders. */}}
{{- define "cloister.fetchWeights" -}}
- name: weights
  {{- $resources := dict "requests" (dict "cpu" "50m" "memory" "64Mi") "limits" (dict "memory" "512Mi") }}
  {{- include "cloister.containerDefaults" (dict "root" .root "image" .root.Values.models.image "resources" $resources) | nindent 2 }}
  args: {{ .folders | toJson }}
  volumeMounts:
    - name: weights
      mountPath: /weights
{{- end -}}

{{/* cloister.weightsVolume: an emptyDir that the init container fills, or an existing claim. Takes weights. */}}
{{- define "cloister.weightsVolume" -}}
- name: weights
{{- if .weights.claim }}
  persistentVolumeClaim:
    claimName: {{ .weights.claim }}
    readOnly: true
{{- else }}
  emptyDir:
    sizeLimit: {{ .weights.size }}
{{- end }}
{{- end -}}
