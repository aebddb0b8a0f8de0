{{- define "listener.export" -}}
name: export
image: {{ include "listener.image" (dict "image" .Values.export.image "root" .) }}
imagePullPolicy: {{ .Values.export.image.pullPolicy }}
args: [export]
env:
  {{- if .Values.clean.enabled }}
  # What leaves the site is attached to what is clean.
  - {name: LISTENER_DATA, value: /clean/data}
  - {name: LISTENER_STATE, value: /clean/state}
  {{- else }}
  - {name: LISTENER_DATA, value: {{ include "listener.dataDirectory" . }}}
  - {name: LISTENER_STATE, value: /dicom/state}
  {{- end }}
  - {name: LISTENER_EXPORT_HTTP, value: "0.0.0.0:{{ .Values.export.port }}"}
  {{- include "listener.stays" . | nindent 2 }}
  {{- include "listener.options" (dict "options" .Values.export.options "prefix" "LISTENER_EXPORT_") | nindent 2 }}
  {{- with .Values.export.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.export.credentials.secretName }}
envFrom:
  - secretRef: {name: {{ . }}, optional: true}
{{- end }}
ports:
  - {name: export, containerPort: {{ .Values.export.port }}, protocol: TCP}
# No probe of readiness: a pod takes files all the same while the target is away.
livenessProbe:
  httpGet: {path: /healthz, port: export}
  {{- toYaml .Values.listener.livenessProbe | nindent 2 }}
resources:
  {{- toYaml .Values.export.resources | nindent 2 }}
securityContext:
  {{- include "listener.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  {{- if .Values.clean.enabled }}
  - {name: clean, mountPath: /clean/state, subPath: state}
  - {name: clean, mountPath: /clean/data, subPath: data, readOnly: true}
  {{- else }}
  - {name: dicom, mountPath: /dicom/state, subPath: state}
  {{- if .Values.persistence.data.existingClaim }}
  - {name: data, mountPath: /dicom-data, readOnly: true}
  {{- else }}
  - {name: dicom, mountPath: /dicom/data, subPath: data, readOnly: true}
  {{- end }}
  {{- end }}
  {{- if .Values.export.credentials.filesSecretName }}
  - {name: export-files, mountPath: /run/export, readOnly: true}
  {{- end }}
  {{- with .Values.export.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "listener.validateExport" -}}
{{- with .Values.export -}}
{{- if and .enabled (not .options.to) -}}
{{- fail "export.enabled, but nowhere to: set export.options.to, such as s3://BUCKET/PREFIX (docs/export.md)" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Where export goes, as addresses in YAML: the store's, and that by which a machine on a cloud knows who it is. */ -}}
{{- define "listener.exportAddresses" -}}
{{- $found := list -}}
{{- with .Values.export -}}
{{- if and .enabled (regexMatch "^(s3|gs|az)://" (toString .options.to)) -}}
{{- $found = append $found (.options.endpoint | default "https://storage.of.the.cloud") -}}
{{- if not (or .credentials.secretName .credentials.filesSecretName) -}}
{{- $found = append $found "http://169.254.169.254" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}
