{{- define "vespid.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "vespid.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "vespid.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "vespid.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels that never change: what selects pods. Called with the root and a component. */ -}}
{{- define "vespid.selector" -}}
app.kubernetes.io/name: {{ include "vespid.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "vespid.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "vespid.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: vespid
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "vespid.image" -}}
{{- $image := .Values.image -}}
{{- $name := ternary $image.repository (printf "%s/%s" $image.registry $image.repository) (empty $image.registry) -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "vespid.account" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-%s" (include "vespid.fullname" .root) .component) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{- /* Whether one volume keeps uploads, which two pods cannot both write. */ -}}
{{- define "vespid.volume" -}}
{{- if and (not .Values.gateway.store.url) (or .Values.gateway.store.persistence.enabled .Values.gateway.store.persistence.existingClaim) -}}true{{- end -}}
{{- end -}}

{{- /* Where pods may run: the same for both components. */ -}}
{{- define "vespid.placement" -}}
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
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- /* Mistakes that a schema cannot find. */ -}}
{{- define "vespid.check" -}}
{{- $gateway := .Values.gateway -}}
{{- if not $gateway.store.url -}}
{{- if gt (int $gateway.replicas) 1 -}}
{{- fail "gateway.replicas: several gateways need gateway.store.url, a bucket that all of them keep uploads in" -}}
{{- end -}}
{{- if $gateway.autoscaling.enabled -}}
{{- fail "gateway.autoscaling: several gateways need gateway.store.url, a bucket that all of them keep uploads in" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (empty .Values.ingress.hosts) -}}
{{- fail "ingress.hosts: name a host" -}}
{{- end -}}
{{- if and (or .Values.gatewayApi.http.enabled .Values.gatewayApi.grpc.enabled) (empty .Values.gatewayApi.parentRefs) -}}
{{- fail "gatewayApi.parentRefs: name the Gateway that the routes belong to" -}}
{{- end -}}
{{- end -}}
