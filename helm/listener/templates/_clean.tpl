{{- /* The stage deidentify, and the collection of what is clean: a listener of its own, on a claim of its own. */ -}}
{{- define "listener.deidentify" -}}
name: deidentify
image: {{ include "listener.image" (dict "image" .Values.listener.image "root" .) }}
imagePullPolicy: {{ .Values.listener.image.pullPolicy }}
args: [deidentify]
env:
  - {name: LISTENER_DATA, value: {{ include "listener.dataDirectory" . }}}
  - {name: LISTENER_STATE, value: /dicom/state}
  - {name: LISTENER_DEIDENTIFY_INTO, value: /clean/batches}
  - {name: LISTENER_DEIDENTIFY_KEY_FILE, value: {{ printf "/run/deidentify/%s" .Values.clean.key.key | quote }}}
  - {name: LISTENER_DEIDENTIFY_HTTP, value: "0.0.0.0:{{ .Values.clean.port }}"}
  {{- include "listener.stays" . | nindent 2 }}
  {{- include "listener.options" (dict "options" .Values.clean.options "prefix" "LISTENER_DEIDENTIFY_") | nindent 2 }}
ports:
  - {name: deidentify, containerPort: {{ .Values.clean.port }}, protocol: TCP}
# No probe of readiness: a pod takes files all the same while nothing is cleaned.
livenessProbe:
  httpGet: {path: /healthz, port: deidentify}
  {{- toYaml .Values.listener.livenessProbe | nindent 2 }}
resources:
  {{- toYaml .Values.clean.resources | nindent 2 }}
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
  - {name: clean, mountPath: /clean}
  - {name: deidentify-key, mountPath: /run/deidentify, readOnly: true}
  {{- range .Values.clean.secrets }}
  - {name: secret-{{ . }}, mountPath: /run/secrets/{{ . }}, readOnly: true}
  {{- end }}
  {{- with .Values.clean.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "listener.clean" -}}
name: clean
image: {{ include "listener.image" (dict "image" .Values.listener.image "root" .) }}
imagePullPolicy: {{ .Values.listener.image.pullPolicy }}
args: [run]
env:
  # The image names one, which is not here: nothing comes in but by batches.
  - {name: LISTENER_INCOMING, value: ""}
  - {name: LISTENER_BATCHES, value: /clean/batches}
  - {name: LISTENER_BATCH_SOURCE, value: remove}
  - {name: LISTENER_BATCHES_AT_ONCE, value: "0"}
  - {name: LISTENER_DATA, value: /clean/data}
  - {name: LISTENER_LOG, value: /clean/log}
  - {name: LISTENER_STATE, value: /clean/state}
  - {name: LISTENER_HTTP, value: "0.0.0.0:{{ .Values.clean.collection.port }}"}
  {{- if not (hasKey .Values.clean.collection.options "retry-start") }}
  {{- include "listener.stays" . | nindent 2 }}
  {{- end }}
  {{- include "listener.access" . | nindent 2 }}
  {{- include "listener.options" (dict "options" .Values.clean.collection.options "prefix" "LISTENER_") | nindent 2 }}
ports:
  - {name: clean, containerPort: {{ .Values.clean.collection.port }}, protocol: TCP}
# No probe of its start, for which storescp would wait, nor of readiness: what is not taken waits in its folder, and the
# pod takes files all the same.
livenessProbe:
  httpGet: {path: /healthz, port: clean, scheme: {{ include "listener.scheme" . | upper }}}
  {{- toYaml .Values.listener.livenessProbe | nindent 2 }}
resources:
  {{- toYaml .Values.clean.collection.resources | nindent 2 }}
securityContext:
  {{- include "listener.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  # Nothing of the raw collection: what is not clean cannot come in here but by the stage.
  - {name: clean, mountPath: /clean}
  {{- if .Values.listener.tokens.secretName }}
  - {name: listener-tokens, mountPath: /run/tokens, readOnly: true}
  {{- end }}
  {{- if .Values.listener.tls.secretName }}
  - {name: listener-tls, mountPath: /run/tls, readOnly: true}
  {{- end }}
{{- end -}}

{{- /* Volumes of both, but for the claim that the StatefulSet makes by itself. */ -}}
{{- define "listener.cleanVolumes" -}}
{{- if .Values.clean.enabled }}
{{- if .Values.clean.persistence.existingClaim }}
- name: clean
  persistentVolumeClaim: {claimName: {{ .Values.clean.persistence.existingClaim }}}
{{- else if not .Values.persistence.enabled }}
- name: clean
  emptyDir: {}
{{- end }}
- name: deidentify-key
  secret: {secretName: {{ .Values.clean.key.secretName }}, optional: true, defaultMode: 0440, items: [{key: {{ .Values.clean.key.key | quote }}, path: {{ .Values.clean.key.key | quote }}}]}
{{- end }}
{{- end -}}

{{- define "listener.validateClean" -}}
{{- with .Values.clean -}}
{{- if .enabled -}}
{{- if not .key.secretName -}}
{{- fail "clean.enabled, but there is no key: `listener deidentify new-key FILE` makes one; put it into a Secret and set clean.key.secretName" -}}
{{- end -}}
{{- if and .persistence.existingClaim (gt (int $.Values.replicas) 1) -}}
{{- fail "clean.persistence.existingClaim is one volume, and each of several replicas needs its own: leave it empty, or set replicas to 1" -}}
{{- end -}}
{{- if eq .persistence.existingClaim ($.Values.persistence.existingClaim | default "-") -}}
{{- fail "clean.persistence.existingClaim is the volume of what is not clean: give another one" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* A claim that the StatefulSet makes: (dict "name" ... "claim" values). */ -}}
{{- define "listener.claim" -}}
- metadata:
    name: {{ .name }}
    {{- with .claim.annotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes:
      {{- toYaml .claim.accessModes | nindent 6 }}
    {{- with .claim.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .claim.size }}
{{- end -}}
