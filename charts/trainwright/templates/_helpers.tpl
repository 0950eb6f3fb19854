{{- define "trainwright.name" -}}
{{- .Values.nameOverride | default .Chart.Name }}
{{- end }}

{{- define "trainwright.fullname" -}}
{{- $name := include "trainwright.name" . }}
{{- $own := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $own | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "trainwright.operator" -}}
{{- include "trainwright.fullname" . }}-operator
{{- end }}

{{/* What the operator's pods are selected by, here and in the NetworkPolicies that it makes: it never changes. */}}
{{- define "trainwright.selector" -}}
app.kubernetes.io/name: trainwright
app.kubernetes.io/component: operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "trainwright.operatorLabels" -}}
app.kubernetes.io/component: operator
{{ include "trainwright.labels" . }}
{{- end }}

{{- define "trainwright.labels" -}}
app.kubernetes.io/name: trainwright
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "trainwright.tag" -}}
{{- .Values.images.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "trainwright.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "trainwright.operator" .) "default") }}
{{- end }}

{{- define "trainwright.gatewaySecret" -}}
{{- .Values.gateway.existingSecret | default (printf "%s-gateway-key" (include "trainwright.fullname" .)) }}
{{- end }}

{{- define "trainwright.prices" -}}
{{ toYaml .Values.prices }}
{{- end }}

{{- define "trainwright.clusterwide" -}}
{{- if eq .Values.scope "cluster" }}true{{ end }}
{{- end }}
