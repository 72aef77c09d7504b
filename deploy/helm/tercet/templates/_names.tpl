{{/* What everything is called, and by which labels the servers are found. */}}

{{- define "tercet.name" -}}
{{- if contains "tercet" .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-tercet" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tercet.selector" -}}
app.kubernetes.io/name: tercet
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tercet.labels" -}}
{{ include "tercet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tercet
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "tercet.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* What runs: the settings of values.server, and what follows from the rest of the values. */}}
{{- define "tercet.settings" -}}
{{- $settings := dict "host" "0.0.0.0" "port" 8080 "open_health" true "history" "/var/lib/tercet/history.sqlite" -}}
{{- if .Values.model.name -}}
{{- $model := .Values.model.name -}}
{{- if .Values.model.claim -}}{{- $model = printf "/models/%s" $model -}}{{- end -}}
{{- $_ := set $settings "model" $model -}}
{{- end -}}
{{- if .Values.keys.secret -}}{{- $_ := set $settings "keys" "/etc/tercet/keys/keys.jsonl" -}}{{- end -}}
{{- if .Values.keys.allowUnauthenticated -}}{{- $_ := set $settings "allow_unauthenticated" true -}}{{- end -}}
{{- if .Values.keys.openMetrics -}}{{- $_ := set $settings "open_metrics" true -}}{{- end -}}
{{- mustToPrettyJson (merge (deepCopy .Values.server) $settings) -}}
{{- end -}}
