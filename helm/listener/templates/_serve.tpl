{{- define "listener.serve" -}}
name: serve
image: {{ include "listener.image" (dict "image" .Values.serve.image "root" .) }}
imagePullPolicy: {{ .Values.serve.image.pullPolicy }}
args: [serve]
env:
  - {name: LISTENER_DATA, value: {{ include "listener.dataDirectory" . }}}
  - {name: LISTENER_STATE, value: /dicom/state}
  - {name: LISTENER_SERVE_DICOMWEB, value: "0.0.0.0:{{ .Values.serve.port }}"}
  - {name: LISTENER_SERVE_HTTP, value: "0.0.0.0:{{ .Values.serve.metricsPort }}"}
  {{- include "listener.stays" . | nindent 2 }}
  - {name: LISTENER_SERVE_INDEX, value: /index/listener}
  {{- if .Values.serve.tokens.secretName }}
  - {name: LISTENER_SERVE_TOKEN_FILE, value: {{ printf "/run/serve/%s" .Values.serve.tokens.key | quote }}}
  {{- end }}
  - {name: TMPDIR, value: /index}
  {{- include "listener.options" (dict "options" .Values.serve.options "prefix" "LISTENER_SERVE_") | nindent 2 }}
ports:
  - {name: dicomweb, containerPort: {{ .Values.serve.port }}, protocol: TCP}
  - {name: serve-metrics, containerPort: {{ .Values.serve.metricsPort }}, protocol: TCP}
# No probe of readiness: a pod takes files all the same while the catalogue is filled.
livenessProbe:
  httpGet: {path: /healthz, port: serve-metrics}
  {{- toYaml .Values.listener.livenessProbe | nindent 2 }}
resources:
  {{- toYaml .Values.serve.resources | nindent 2 }}
securityContext:
  {{- include "listener.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: dicom, mountPath: /dicom/state, subPath: state, readOnly: true}
  {{- if .Values.persistence.data.existingClaim }}
  - {name: data, mountPath: /dicom-data, readOnly: true}
  {{- else }}
  - {name: dicom, mountPath: /dicom/data, subPath: data, readOnly: true}
  {{- end }}
  - {name: serve-index, mountPath: /index}
  {{- if .Values.serve.tokens.secretName }}
  - {name: serve-tokens, mountPath: /run/serve, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "listener.validateServe" -}}
{{- with .Values.serve -}}
{{- if .enabled -}}
{{- if gt (int $.Values.replicas) 1 -}}
{{- fail "serve.enabled with several replicas: each shard has a collection of its own: set replicas to 1" -}}
{{- end -}}
{{- if eq (empty .tokens.secretName) (not (index .options "no-token")) -}}
{{- fail "serve: set one of serve.tokens.secretName (who may read) and serve.options.no-token (everybody who can connect)" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
