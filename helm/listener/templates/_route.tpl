{{- define "listener.route" -}}
name: route
image: {{ include "listener.image" (dict "image" .Values.listener.image "root" .) }}
imagePullPolicy: {{ .Values.listener.image.pullPolicy }}
args: [route]
env:
  - {name: LISTENER_DATA, value: {{ include "listener.dataDirectory" . }}}
  - {name: LISTENER_STATE, value: /dicom/state}
  - {name: LISTENER_ROUTE_ROUTES, value: /etc/route/routes.toml}
  - {name: LISTENER_ROUTE_HTTP, value: "0.0.0.0:{{ .Values.route.port }}"}
  {{- include "listener.stays" . | nindent 2 }}
  {{- include "listener.access" . | nindent 2 }}
  {{- include "listener.options" (dict "options" .Values.route.options "prefix" "LISTENER_ROUTE_") | nindent 2 }}
ports:
  - {name: route, containerPort: {{ .Values.route.port }}, protocol: TCP}
# No probe of readiness: a pod whose router is not ready takes files all the same.
livenessProbe:
  httpGet: {path: /healthz, port: route, scheme: {{ include "listener.scheme" . | upper }}}
  {{- toYaml .Values.listener.livenessProbe | nindent 2 }}
resources:
  {{- toYaml .Values.route.resources | nindent 2 }}
securityContext:
  {{- include "listener.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: dicom, mountPath: /dicom}
  {{- if .Values.persistence.data.existingClaim }}
  - {name: data, mountPath: /dicom-data}
  {{- end }}
  # A folder, so that a file that is replaced is seen.
  - {name: routes, mountPath: /etc/route, readOnly: true}
  {{- if .Values.listener.tokens.secretName }}
  - {name: listener-tokens, mountPath: /run/tokens, readOnly: true}
  {{- end }}
  {{- if .Values.listener.tls.secretName }}
  - {name: listener-tls, mountPath: /run/tls, readOnly: true}
  {{- end }}
  {{- range .Values.route.secrets }}
  - {name: secret-{{ . }}, mountPath: /run/secrets/{{ . }}, readOnly: true}
  {{- end }}
{{- end -}}

{{- /* The receiver of results: storescp as for senders, on another port and into another directory. */ -}}
{{- define "listener.inside" -}}
name: inside
image: {{ include "listener.image" (dict "image" .Values.storescp.image "root" .) }}
imagePullPolicy: {{ .Values.storescp.image.pullPolicy }}
command:
  {{- toYaml .Values.storescp.command | nindent 2 }}
args:
  {{- toYaml .Values.storescp.args | nindent 2 }}
  {{- include "listener.tls" . | nindent 2 }}
  - -od
  - /inside
  - {{ .Values.route.inside.port | quote }}
env:
  - {name: TCP_NODELAY, value: "1"}
ports:
  - {name: inside, containerPort: {{ .Values.route.inside.port }}, protocol: TCP}
livenessProbe:
  tcpSocket: {port: inside}
  {{- toYaml .Values.storescp.livenessProbe | nindent 2 }}
readinessProbe:
  tcpSocket: {port: inside}
  {{- toYaml .Values.storescp.readinessProbe | nindent 2 }}
resources:
  {{- toYaml .Values.storescp.resources | nindent 2 }}
securityContext:
  {{- include "listener.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: dicom, mountPath: /inside, subPath: inside}
  {{- if .Values.storescp.tls.secretName }}
  - {name: storescp-tls, mountPath: /run/tls, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "listener.validateRoute" -}}
{{- if .Values.route.enabled -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- fail "route.enabled with several replicas: shards would split studies between them: set replicas to 1" -}}
{{- end -}}
{{- if not .Values.route.routes -}}
{{- fail "route.enabled, but route.routes is empty: give the routes file as text (docs/routing.md)" -}}
{{- end -}}
{{- end -}}
{{- end -}}
