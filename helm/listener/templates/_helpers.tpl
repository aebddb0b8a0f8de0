{{- define "listener.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 50 characters, so that a pod's and a claim's name stay under 63. */ -}}
{{- define "listener.fullname" -}}
{{- $name := include "listener.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "listener.selector" -}}
app.kubernetes.io/name: {{ include "listener.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: intake
{{- end -}}

{{- define "listener.labels" -}}
{{ include "listener.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* (dict "image" .Values.x.image "root" $) */ -}}
{{- define "listener.image" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $parts := splitList "/" $repository -}}
{{- if and (gt (len $parts) 1) (regexMatch "[.:]|^localhost$" (first $parts)) -}}
{{- $parts = rest $parts -}}
{{- end -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (join "/" $parts) -}}
{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{- /* Names of the secrets with which images are pulled, as a list of references; "" when there are none. */ -}}
{{- define "listener.pullSecrets" -}}
{{- range concat .Values.global.imagePullSecrets .Values.imagePullSecrets }}
- name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
{{- end }}
{{- end -}}

{{- /* What every container of ours may do: nothing. The restricted Pod Security level asks for all of it. */ -}}
{{- define "listener.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "listener.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.uid }}
runAsUser: {{ . }}
{{- end }}
{{- with .Values.gid }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- /* The page is shown to those alone who may look. */ -}}
{{- define "listener.validatePage" -}}
{{- $tokens := .Values.listener.tokens.secretName -}}
{{- $certificates := and .Values.listener.tls.secretName .Values.listener.tls.clientCa -}}
{{- if and .Values.listener.tls.clientCa (not .Values.listener.tls.secretName) -}}
{{- fail "listener.tls.clientCa is for HTTPS: set listener.tls.secretName too" -}}
{{- end -}}
{{- if and .Values.page.enabled (not $tokens) (not $certificates) -}}
{{- fail "page.enabled: the page answers nobody from outside of its pod unless it is told who may look: set listener.tokens.secretName, or listener.tls.secretName with listener.tls.clientCa" -}}
{{- end -}}
{{- if and .Values.page.enabled (has (toString .Values.listener.options.page) (list "off" "false")) -}}
{{- fail "page.enabled, but the option page is off: set one of them" -}}
{{- end -}}
{{- with .Values.page.ingress -}}
{{- if .enabled -}}
{{- if not $.Values.page.enabled -}}
{{- fail "page.ingress.enabled leads to the Services of page.enabled: set that too" -}}
{{- end -}}
{{- if not $tokens -}}
{{- fail "page.ingress.enabled: a client's certificate ends at the Ingress, which every user would look through: set listener.tokens.secretName" -}}
{{- end -}}
{{- if ne (len .hosts) (int $.Values.replicas) -}}
{{- fail (printf "page.ingress.hosts has %d names for %d shards: each shard has a page of its own, so give one name for each" (len .hosts) (int $.Values.replicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Containers of a pod share its address. */ -}}
{{- define "listener.validatePorts" -}}
{{- $names := list "listener" "storescp" -}}
{{- $ports := list (int .Values.listener.port | toString) (int .Values.storescp.port | toString) -}}
{{- range $stage := list "route" "notify" "export" "clean" "serve" -}}
{{- with index $.Values $stage -}}
{{- if .enabled -}}
{{- $names = append $names $stage -}}
{{- $ports = append $ports (int .port | toString) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.serve.enabled -}}
{{- $names = append $names "serve.metrics" -}}
{{- $ports = append $ports (int .Values.serve.metricsPort | toString) -}}
{{- end -}}
{{- if .Values.clean.enabled -}}
{{- $names = append $names "clean.collection" -}}
{{- $ports = append $ports (int .Values.clean.collection.port | toString) -}}
{{- end -}}
{{- if eq (include "listener.hasInside" .) "yes" -}}
{{- $names = append $names "route.inside" -}}
{{- $ports = append $ports (int .Values.route.inside.port | toString) -}}
{{- end -}}
{{- if and (gt (len $ports) 2) (ne (len $ports) (len ($ports | uniq))) -}}
{{- fail (printf "ports of %s (%s) share the pod's address: give each its own" (join ", " $names) (join ", " $ports)) -}}
{{- end -}}
{{- end -}}

{{- /* What no schema can see: values that do not fit each other. */ -}}
{{- define "listener.validate" -}}
{{- $drain := float64 (get .Values.listener.options "drain" | default 25) -}}
{{- if lt (float64 .Values.terminationGracePeriodSeconds) (addf $drain 7 .Values.storescp.lingerSeconds) -}}
{{- fail (printf "terminationGracePeriodSeconds (%v) is too short: storescp.lingerSeconds (%v) and the option drain (%v) come one after the other; give at least %v" .Values.terminationGracePeriodSeconds .Values.storescp.lingerSeconds $drain (addf $drain 7 .Values.storescp.lingerSeconds)) -}}
{{- end -}}
{{- if and .Values.persistence.existingClaim (gt (int .Values.replicas) 1) -}}
{{- fail "persistence.existingClaim is one volume, and each of several replicas needs its own: leave it empty, or set replicas to 1" -}}
{{- end -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.persistence.enabled) (or .Values.persistence.data.existingClaim .Values.persistence.log.existingClaim) -}}
{{- fail "persistence.enabled is off, so incoming would go with each pod although the tree stays: set persistence.enabled" -}}
{{- end -}}
{{- include "listener.validateRoute" . -}}
{{- include "listener.validateNotify" . -}}
{{- include "listener.validateServe" . -}}
{{- include "listener.validateExport" . -}}
{{- include "listener.validateClean" . -}}
{{- include "listener.validatePorts" . -}}
{{- if eq (int .Values.listener.port) (int .Values.storescp.port) -}}
{{- fail (printf "listener.port and storescp.port are both %v: both containers share the pod's address; change one" .Values.listener.port) -}}
{{- end -}}
{{- include "listener.validatePage" . -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- fail "podMonitor.enabled and serviceMonitor.enabled: every metric would be scraped twice; set one of them" -}}
{{- end -}}
{{- end -}}
