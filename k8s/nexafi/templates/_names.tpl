{{/* Names, labels and the parts that every pod of this chart shares. */}}

{{- define "nexafi.name" -}}
{{- printf "%s-%s" .root.Release.Name .role | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "nexafi.selector" -}}
app.kubernetes.io/name: nexafi
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "nexafi.labels" -}}
{{ include "nexafi.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: nexafi
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "nexafi.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Plain settings of every role; where each query API is follows from the roles themselves. */}}
{{- define "nexafi.config" -}}
{{- range $name, $value := .Values.config }}
{{ $name }}: {{ $value | quote }}
{{- end }}
NEXAFI_HOST: "0.0.0.0"
{{- $urls := dict }}
{{- range $role, $spec := .Values.roles }}
{{- if $spec.service }}
{{- $_ := set $urls $spec.service (printf "http://%s:%v" (include "nexafi.name" (dict "root" $ "role" $role)) $spec.port) }}
{{- end }}
{{- end }}
NEXAFI_SERVICE_URLS: {{ $urls | toJson | quote }}
{{- end -}}

{{- define "nexafi.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "nexafi.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}
