{{- define "listener.notify" -}}
name: notify
image: {{ include "listener.image" (dict "image" .Values.notify.image "root" .) }}
imagePullPolicy: {{ .Values.notify.image.pullPolicy }}
args: [notify]
env:
  - {name: LISTENER_DATA, value: {{ include "listener.dataDirectory" . }}}
  - {name: LISTENER_STATE, value: /dicom/state}
  - {name: LISTENER_NOTIFY_HTTP, value: "0.0.0.0:{{ .Values.notify.port }}"}
  {{- include "listener.stays" . | nindent 2 }}
  {{- range $secret := include "listener.notifySecrets" . | fromYamlArray }}
  - {name: {{ .variable }}, value: {{ printf "/run/notify/%s/%s" .name .key | quote }}}
  {{- end }}
  {{- include "listener.options" (dict "options" .Values.notify.options "prefix" "LISTENER_NOTIFY_") | nindent 2 }}
ports:
  - {name: notify, containerPort: {{ .Values.notify.port }}, protocol: TCP}
# No probe of readiness: a pod takes files all the same while a broker is away.
livenessProbe:
  httpGet: {path: /healthz, port: notify}
  {{- toYaml .Values.listener.livenessProbe | nindent 2 }}
resources:
  {{- toYaml .Values.notify.resources | nindent 2 }}
securityContext:
  {{- include "listener.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: dicom, mountPath: /dicom/state, subPath: state}
  {{- if .Values.persistence.data.existingClaim }}
  - {name: data, mountPath: /dicom-data, readOnly: true}
  {{- else }}
  - {name: dicom, mountPath: /dicom/data, subPath: data, readOnly: true}
  {{- end }}
  {{- range include "listener.notifySecrets" . | fromYamlArray }}
  - {name: notify-{{ .name }}, mountPath: /run/notify/{{ .name }}, readOnly: true}
  {{- end }}
{{- end -}}

{{- /* Secrets of notify, as a list in YAML: which file it is (name, key, variable) and the Secret that holds it. */ -}}
{{- define "listener.notifySecrets" -}}
{{- $found := list -}}
{{- range $name, $variable := dict "nats" "LISTENER_NOTIFY_NATS_FILE" "celery" "LISTENER_NOTIFY_CELERY_FILE" "login" "LISTENER_NOTIFY_CUBE_LOGIN" "authorities" "SSL_CERT_FILE" -}}
{{- $secret := index $.Values.notify $name -}}
{{- if and $.Values.notify.enabled $secret.secretName -}}
{{- $found = append $found (dict "name" $name "variable" $variable "secretName" $secret.secretName "key" $secret.key) -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{- define "listener.validateNotify" -}}
{{- with .Values.notify -}}
{{- if .enabled -}}
{{- $celery := or .celery.secretName .options.celery -}}
{{- if not (or .nats.secretName .options.nats $celery) -}}
{{- fail "notify.enabled, but nobody is to be told: set notify.options.nats, notify.options.celery, or a Secret of either" -}}
{{- end -}}
{{- range $name := list "nats" "celery" -}}
{{- if and (index $.Values.notify $name).secretName (index $.Values.notify.options $name) -}}
{{- fail (printf "notify.%s.secretName and notify.options.%s: set one of them" $name $name) -}}
{{- end -}}
{{- end -}}
{{- if ne (empty .options.cube) (empty .login.secretName) -}}
{{- fail "notify.options.cube and notify.login.secretName: set both, or none" -}}
{{- end -}}
{{- if and .options.cube (not $celery) -}}
{{- fail "notify.options.cube asks whether a series is registered, for which CUBE must be told: set notify.options.celery or notify.celery.secretName" -}}
{{- end -}}
{{- if and $celery (ne (toString $.Values.listener.options.layout) "oxidicom") -}}
{{- fail "notify: CUBE registers series of the layout oxidicom alone: set listener.options.layout to oxidicom" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
