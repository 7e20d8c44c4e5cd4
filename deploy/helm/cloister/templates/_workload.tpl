{{/* The objects that several parts have in the same shape: Service, HPA, disruption budget, one policy's peers. */}}

{{/* cloister.service: takes root, part, port, portName, targetPort, appProtocol, headless, type and annotations. */}}
{{- define "cloister.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "cloister.meta" . | nindent 2 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  type: {{ .type | default "ClusterIP" }}
  selector:
    {{- include "cloister.selector" . | nindent 4 }}
  ports:
    - name: {{ .portName }}
      port: {{ .port }}
      targetPort: {{ .targetPort }}
      protocol: TCP
      {{- with .appProtocol }}
      appProtocol: {{ . }}
      {{- end }}
{{- end -}}

{{/* cloister.hpa: takes root, part, values (with autoscaling). */}}
{{- define "cloister.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "cloister.meta" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "cloister.name" . }}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ .values.autoscaling.cpuPercent }}
{{- end -}}

{{/* cloister.replicas: the least number of pods a part will have. Takes values. */}}
{{- define "cloister.replicas" -}}
{{- if and .values.autoscaling .values.autoscaling.enabled -}}
{{ .values.autoscaling.minReplicas }}
{{- else -}}
{{ .values.replicas }}
{{- end -}}
{{- end -}}

{{/* cloister.pdb: one pod of a part at a time. Only where there are two or more: a budget on a single pod blocks every drain. */}}
{{- define "cloister.pdb" -}}
{{- if and .root.Values.podDisruptionBudgets.enabled (gt (include "cloister.replicas" . | int) 1) -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "cloister.meta" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "cloister.selector" . | nindent 6 }}
{{- end -}}
{{- end -}}

{{/* cloister.policy.peer: the pods of one part as a NetworkPolicy peer. */}}
{{- define "cloister.policy.peer" -}}
- podSelector:
    matchLabels:
      {{- include "cloister.selector" . | nindent 6 }}
{{- end -}}

{{/* cloister.policy.dns: the cluster's resolver, for the parts that look up names. */}}
{{- define "cloister.policy.dns" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns.peers | nindent 4 }}
  ports:
    - port: {{ .Values.networkPolicy.dns.port }}
      protocol: UDP
    - port: {{ .Values.networkPolicy.dns.port }}
      protocol: TCP
{{- end -}}

{{/* cloister.policy.metrics: who may read a part's metrics port. Takes root and port. */}}
{{- define "cloister.policy.metrics" -}}
{{- with .root.Values.networkPolicy.metricsFrom }}
- from:
    {{- toYaml . | nindent 4 }}
  ports:
    - port: {{ $.port }}
      protocol: TCP
{{- end }}
{{- end -}}

{{/* cloister.policy.external: an outside store, by the peers and ports its section names. Takes section. */}}
{{- define "cloister.policy.external" -}}
- to:
    {{- toYaml .section.peers | nindent 4 }}
  ports:
    {{- range .section.ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end -}}
