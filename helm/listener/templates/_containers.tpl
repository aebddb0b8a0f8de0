{{- /* What the listener's port speaks. */ -}}
{{- define "listener.scheme" -}}
{{ ternary "https" "http" (ne .Values.listener.tls.secretName "") }}
{{- end -}}

{{- /* Ports with metrics, by name; those of other stages speak HTTP alone. */ -}}
{{- define "listener.scraped" -}}
http{{ if .Values.route.enabled }} route{{ end }}{{ if .Values.notify.enabled }} notify{{ end }}{{ if .Values.export.enabled }} export{{ end }}{{ if .Values.clean.enabled }} deidentify clean{{ end }}{{ if .Values.serve.enabled }} serve-metrics{{ end }}
{{- end -}}

{{- /* Where the tree and the logs are mounted: below the one volume, unless they have claims of their own. */ -}}
{{- define "listener.dataDirectory" -}}
{{ ternary "/dicom-data" "/dicom/data" (ne .Values.persistence.data.existingClaim "") }}
{{- end -}}
{{- define "listener.logDirectory" -}}
{{ ternary "/dicom-log" "/dicom/log" (ne .Values.persistence.log.existingClaim "") }}
{{- end -}}

{{- /* One container that leaves makes the pod unready, and files would not come: a stage stays and tries again. For the
same reason its Secrets are optional: without one the pod would not start. */ -}}
{{- define "listener.stays" -}}
- {name: LISTENER_RETRY_START, value: "30"}
{{- end -}}

{{- /* Whether there is a receiver for what workers send: "yes" or "". */ -}}
{{- define "listener.hasInside" -}}
{{- if and .Values.route.enabled .Values.route.inside.enabled }}yes{{ end -}}
{{- end -}}

{{- /* Who may look, and by what: the same on the ports of listener and route. */ -}}
{{- define "listener.access" -}}
{{- with .Values.listener.tokens }}
{{- if .secretName }}
- {name: LISTENER_TOKEN_FILE, value: {{ printf "/run/tokens/%s" .key | quote }}}
{{- end }}
{{- end }}
{{- with .Values.listener.tls }}
{{- if .secretName }}
- {name: LISTENER_HTTP_CERT, value: {{ printf "/run/tls/%s" .certificate | quote }}}
- {name: LISTENER_HTTP_KEY, value: {{ printf "/run/tls/%s" .key | quote }}}
{{- with .clientCa }}
- {name: LISTENER_HTTP_CLIENT_CA, value: {{ printf "/run/tls/%s" . | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Options by their TOML key, as variables: (dict "options" ... "prefix" ...). */ -}}
{{- define "listener.options" -}}
{{- $prefix := .prefix }}
{{- range $key, $value := .options }}
{{- if kindIs "bool" $value }}
{{- $value = ternary "on" "off" $value }}
{{- end }}
- name: {{ $prefix }}{{ $key | upper | replace "-" "_" }}
  value: {{ if kindIs "slice" $value }}{{ join (get (dict "nats" "\n" "columns" "," "cors" " " "behind-proxy" " ") $key | default (ternary "\n" ":" (hasPrefix "on-" $key))) $value | quote }}{{ else }}{{ toString $value | quote }}{{ end }}
{{- end }}
{{- end -}}

{{- define "listener.environment" -}}
{{- $inside := eq (include "listener.hasInside" .) "yes" -}}
- {name: LISTENER_INCOMING, value: {{ ternary "/dicom/incoming:/dicom/inside" "/dicom/incoming" $inside }}}
- {name: LISTENER_DATA, value: {{ include "listener.dataDirectory" . }}}
- {name: LISTENER_LOG, value: {{ include "listener.logDirectory" . }}}
- {name: LISTENER_STATE, value: /dicom/state}
- {name: LISTENER_HTTP, value: "0.0.0.0:{{ .Values.listener.port }}"}
{{- if and $inside (not (hasKey .Values.listener.options "on-conflict")) }}
- {name: LISTENER_ON_CONFLICT, value: keep-both}
{{- end }}
{{- include "listener.access" . }}
{{- if .Values.listener.hooks }}
- {name: LISTENER_CONFIG, value: /etc/listener/listener.toml}
{{- end }}
{{- include "listener.options" (dict "options" .Values.listener.options "prefix" "LISTENER_") }}
{{- with .Values.listener.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "listener.mounts" -}}
- {name: dicom, mountPath: /dicom}
{{- if .Values.persistence.data.existingClaim }}
- {name: data, mountPath: /dicom-data}
{{- end }}
{{- if .Values.persistence.log.existingClaim }}
- {name: log, mountPath: /dicom-log}
{{- end }}
{{- if .Values.listener.tokens.secretName }}
- {name: listener-tokens, mountPath: /run/tokens, readOnly: true}
{{- end }}
{{- if .Values.listener.tls.secretName }}
- {name: listener-tls, mountPath: /run/tls, readOnly: true}
{{- end }}
{{- if .Values.listener.hooks }}
- {name: config, mountPath: /etc/listener, readOnly: true}
{{- end }}
{{- range .Values.listener.secrets }}
- {name: secret-{{ . }}, mountPath: /run/secrets/{{ . }}, readOnly: true}
{{- end }}
{{- with .Values.listener.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Volumes of the pod, but for the claims that the StatefulSet makes by itself. */ -}}
{{- define "listener.volumes" -}}
{{- if .Values.persistence.existingClaim }}
- name: dicom
  persistentVolumeClaim: {claimName: {{ .Values.persistence.existingClaim }}}
{{- else if not .Values.persistence.enabled }}
- name: dicom
  emptyDir: {}
{{- end }}
{{- with .Values.persistence.data.existingClaim }}
- name: data
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- with .Values.persistence.log.existingClaim }}
- name: log
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- with .Values.listener.tokens.secretName }}
- name: listener-tokens
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.listener.tls.secretName }}
- name: listener-tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- if .Values.listener.hooks }}
- name: config
  configMap: {name: {{ include "listener.fullname" . }}-config}
{{- end }}
{{- $secrets := .Values.listener.secrets }}
{{- if .Values.route.enabled }}
- name: routes
  configMap: {name: {{ include "listener.fullname" . }}-routes}
{{- $secrets = concat $secrets .Values.route.secrets }}
{{- end }}
{{- if .Values.clean.enabled }}
{{- $secrets = concat $secrets .Values.clean.secrets }}
{{- end }}
{{- range $secrets | uniq }}
- name: secret-{{ . }}
  secret: {secretName: {{ . }}, defaultMode: 0440{{ if not (has . $.Values.listener.secrets) }}, optional: true{{ end }}}
{{- end }}
{{- range include "listener.notifySecrets" . | fromYamlArray }}
- name: notify-{{ .name }}
  secret: {secretName: {{ .secretName }}, optional: true, defaultMode: 0440}
{{- end }}
{{- if .Values.export.enabled }}
{{- with .Values.export.credentials.filesSecretName }}
- name: export-files
  secret: {secretName: {{ . }}, optional: true, defaultMode: 0440}
{{- end }}
{{- end }}
{{- if .Values.serve.enabled }}
- name: serve-index
  emptyDir: {sizeLimit: {{ .Values.serve.indexSize }}}
{{- with .Values.serve.tokens.secretName }}
- name: serve-tokens
  secret: {secretName: {{ . }}, optional: true, defaultMode: 0440}
{{- end }}
{{- end }}
{{- with include "listener.cleanVolumes" . | trim }}
{{ . }}
{{- end }}
{{- with .Values.storescp.tls.secretName }}
- name: storescp-tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "listener.container" -}}
name: listener
image: {{ include "listener.image" (dict "image" .Values.listener.image "root" .) }}
imagePullPolicy: {{ .Values.listener.image.pullPolicy }}
args: [run]
env:
  {{- include "listener.environment" . | nindent 2 }}
ports:
  - {name: http, containerPort: {{ .Values.listener.port }}, protocol: TCP}
startupProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ include "listener.scheme" . | upper }}}
  {{- toYaml .Values.listener.startupProbe | nindent 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: http, scheme: {{ include "listener.scheme" . | upper }}}
  {{- toYaml .Values.listener.livenessProbe | nindent 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ include "listener.scheme" . | upper }}}
  {{- toYaml .Values.listener.readinessProbe | nindent 2 }}
resources:
  {{- toYaml .Values.listener.resources | nindent 2 }}
securityContext:
  {{- include "listener.containerSecurity" . | nindent 2 }}
# What it said last stands in the pod's status: `kubectl describe pod` tells what is wrong and how to mend it.
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  {{- include "listener.mounts" . | nindent 2 }}
{{- end -}}

{{- /* DCMTK's options for TLS, of storescp and of the senders of `helm test`, which show the same certificate. */ -}}
{{- define "listener.tls" -}}
{{- $tls := .Values.storescp.tls }}
{{- if $tls.secretName }}
- +tls
- {{ printf "/run/tls/%s" $tls.key | quote }}
- {{ printf "/run/tls/%s" $tls.certificate | quote }}
{{- if ne $tls.peers "ignore" }}
- +cf
- {{ printf "/run/tls/%s" $tls.ca | quote }}
{{- end }}
{{- with $tls.profile }}
- --profile-{{ . }}
{{- end }}
- --{{ $tls.peers }}-peer-cert
{{- end }}
{{- end -}}

{{- define "listener.storescp" -}}
name: storescp
image: {{ include "listener.image" (dict "image" .Values.storescp.image "root" .) }}
imagePullPolicy: {{ .Values.storescp.image.pullPolicy }}
command:
  {{- toYaml .Values.storescp.command | nindent 2 }}
args:
  {{- toYaml .Values.storescp.args | nindent 2 }}
  {{- include "listener.tls" . | nindent 2 }}
  - -od
  - /incoming
  - {{ .Values.storescp.port | quote }}
env:
  - {name: TCP_NODELAY, value: "1"}
  {{- with .Values.storescp.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - {name: dicom, containerPort: {{ .Values.storescp.port }}, protocol: TCP}
{{- if gt (int .Values.storescp.lingerSeconds) 0 }}
lifecycle:
  preStop:
    exec: {command: [sleep, {{ .Values.storescp.lingerSeconds | quote }}]}
{{- end }}
livenessProbe:
  tcpSocket: {port: dicom}
  {{- toYaml .Values.storescp.livenessProbe | nindent 2 }}
readinessProbe:
  tcpSocket: {port: dicom}
  {{- toYaml .Values.storescp.readinessProbe | nindent 2 }}
resources:
  {{- toYaml .Values.storescp.resources | nindent 2 }}
securityContext:
  {{- include "listener.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  # incoming only: storescp can neither see nor harm what is published.
  - {name: dicom, mountPath: /incoming, subPath: incoming}
  {{- if .Values.storescp.tls.secretName }}
  - {name: storescp-tls, mountPath: /run/tls, readOnly: true}
  {{- end }}
  {{- with .Values.storescp.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
