{{/* Name of the objects of this release. */}}
{{- define "covey.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "covey" .Release.Name -}}
{{- .Release.Name | trunc 47 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-covey" (.Release.Name | trunc 41 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "covey.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "covey.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The operator's pod. Network policies of tasks let it in by the first and the last of these labels. */}}
{{- define "covey.selectorLabels" -}}
app.kubernetes.io/name: covey
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "covey.labels" -}}
{{ include "covey.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image by digest or tag. Arguments: image (of the values), value (its path, for the message), version. */}}
{{- define "covey.image" -}}
{{- $repository := required (printf "%s.repository is needed: the name of the image in a registry that you trust" .value) .image.repository -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .version .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Watched namespaces, as JSON; an empty list where all are. */}}
{{- define "covey.watchNamespaces" -}}
{{- if not .Values.watchAllNamespaces -}}
{{- default (list .Release.Namespace) .Values.watchNamespaces | uniq | toJson -}}
{{- else if .Values.watchNamespaces -}}
{{- fail "watchAllNamespaces serves every namespace: leave watchNamespaces empty" -}}
{{- else -}}
[]
{{- end -}}
{{- end -}}

{{/* What every container of the release is denied. */}}
{{- define "covey.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "covey.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "covey.operatorImage" -}}
{{- include "covey.image" (dict "image" .Values.image "value" "image" "version" .Chart.AppVersion) -}}
{{- end -}}

{{/* Addresses and ports as one egress rule, or nothing. Argument: cidrs and ports. */}}
{{- define "covey.egress" -}}
{{- if .cidrs -}}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end -}}
{{- end -}}
