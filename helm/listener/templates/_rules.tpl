{{- /* Where the runbook is read: an address as it is, a path below the chart's home. */ -}}
{{- define "listener.runbook" -}}
{{- $url := .Values.prometheusRule.runbookUrl -}}
{{- if or (contains "://" $url) (not .Chart.Home) -}}
{{ $url }}
{{- else -}}
{{ printf "%s/%s" (trimSuffix "/" .Chart.Home) $url }}
{{- end -}}
{{- end -}}

{{- /*
The alerts of rules/alerts.yaml with the thresholds of values.yaml, as the groups of a PrometheusRule.
They select the pods of this release alone, so that two releases in one Prometheus do not mix.
*/}}
{{- define "listener.rules" -}}
{{- $root := . -}}
{{- $selector := printf "namespace=%q,pod=~\"%s-.*\"" .Release.Namespace (include "listener.fullname" .) -}}
- name: listener
  rules:
{{- range $name, $alert := .Files.Get "rules/alerts.yaml" | fromYaml }}
{{- $set := index $root.Values.prometheusRule.alerts $name }}
{{- if $set.enabled }}
{{- if eq $name "Absent" }}
{{- $set = merge (dict "threshold" (max (int $set.threshold) (int $root.Values.replicas))) $set }}
{{- end }}
{{- $expr := $alert.expr | replace "$selector" $selector }}
{{- $summary := $alert.summary }}
{{- $description := $alert.description }}
{{- range $word, $value := $set }}
{{- $expr = $expr | replace (printf "$%s" $word) (toString $value) }}
{{- $summary = $summary | replace (printf "$%s" $word) (toString $value) }}
{{- $description = $description | replace (printf "$%s" $word) (toString $value) }}
{{- end }}
    - alert: Listener{{ $name }}
      expr: {{ $expr | toRawJson }}
      for: {{ $set.for }}
      labels:
        severity: {{ $set.severity }}
      annotations:
        summary: {{ $summary | toRawJson }}
        description: {{ $description | toRawJson }}
        runbook_url: {{ printf "%s#listener%s" (include "listener.runbook" $root) (lower $name) | toRawJson }}
{{- end }}
{{- end }}
{{- end }}
