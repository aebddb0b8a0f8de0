{{- /* What no schema can see of a backfill. */ -}}
{{- define "listener.validateBackfill" -}}
{{- with .Values.backfill -}}
{{- if not (and .sourceClaim .sharedClaim) -}}
{{- fail "backfill.enabled: give backfill.sourceClaim, which holds the archive, and backfill.sharedClaim, which gets the tree" -}}
{{- end -}}
{{- if and (eq .sourceClaim .sharedClaim) (not .sourcePath) -}}
{{- fail "backfill.sourceClaim is backfill.sharedClaim: incoming and tree must lie side by side; set backfill.sourcePath" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Not those of the shards: their Services and monitors must not find these pods. */ -}}
{{- define "listener.backfillLabels" -}}
{{- $labels := include "listener.labels" . | fromYaml -}}
{{- toYaml (set $labels "app.kubernetes.io/component" "backfill") -}}
{{- end -}}

{{- /* What both Jobs' pods have in common, beside their containers. */ -}}
{{- define "listener.backfillPod" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with include "listener.pullSecrets" . | trim }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- include "listener.podSecurity" . | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: source
    persistentVolumeClaim: {claimName: {{ .Values.backfill.sourceClaim }}}
  {{- if ne .Values.backfill.sourceClaim .Values.backfill.sharedClaim }}
  - name: shared
    persistentVolumeClaim: {claimName: {{ .Values.backfill.sharedClaim }}}
  {{- end }}
initContainers:
  # A part makes no directory, since it could not tell a new one from a volume that is missing.
  - name: prepare
    image: {{ include "listener.image" (dict "image" .Values.listener.image "root" .) }}
    imagePullPolicy: {{ .Values.listener.image.pullPolicy }}
    command: [mkdir, -p, /dicom/data, /dicom/log, /dicom/state]
    resources:
      {{- toYaml .Values.backfill.resources | nindent 6 }}
    securityContext:
      {{- include "listener.containerSecurity" . | nindent 6 }}
    terminationMessagePolicy: FallbackToLogsOnError
    volumeMounts:
      - {name: {{ include "listener.backfillShared" . }}, mountPath: /dicom}
{{- end -}}

{{- define "listener.backfillShared" -}}
{{ ternary "source" "shared" (eq .Values.backfill.sourceClaim .Values.backfill.sharedClaim) }}
{{- end -}}

{{- /* What both Jobs' containers have in common. */ -}}
{{- define "listener.backfillContainer" -}}
image: {{ include "listener.image" (dict "image" .Values.listener.image "root" .) }}
imagePullPolicy: {{ .Values.listener.image.pullPolicy }}
env:
  - {name: LISTENER_INCOMING, value: /archive}
  - {name: LISTENER_DATA, value: /dicom/data}
  - {name: LISTENER_LOG, value: /dicom/log}
  - {name: LISTENER_STATE, value: /dicom/state}
  - {name: LISTENER_EVENTS, value: "off"}
  - {name: LISTENER_KEEP_SOURCE, value: {{ ternary "on" "off" .Values.backfill.keepSource | quote }}}
  {{- range $key, $value := .Values.backfill.options }}
  - name: LISTENER_{{ $key | upper | replace "-" "_" }}
    value: {{ ternary (ternary "on" "off" (eq (toString $value) "true")) (toString $value) (kindIs "bool" $value) | quote }}
  {{- end }}
resources:
  {{- toYaml .Values.backfill.resources | nindent 2 }}
securityContext:
  {{- include "listener.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - name: source
    mountPath: /archive
    {{- with .Values.backfill.sourcePath }}
    subPath: {{ . | quote }}
    {{- end }}
    readOnly: {{ .Values.backfill.keepSource }}
  - {name: {{ include "listener.backfillShared" . }}, mountPath: /dicom}
{{- end -}}
