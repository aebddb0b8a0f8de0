{{- /* The addresses that hooks post to, and those of targets of route, notify, export and of who gives pseudonyms, as
     a list in YAML. */ -}}
{{- define "listener.hookAddresses" -}}
{{- $found := list -}}
{{- range $key, $value := .Values.listener.options -}}
{{- if and (regexMatch "^on-.*-complete$" $key) $value -}}
{{- $found = concat $found (ternary $value (list $value) (kindIs "slice" $value)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $hook := .Values.listener.hooks -}}
{{- with $hook.url -}}
{{- $found = append $found . -}}
{{- end -}}
{{- end -}}
{{- if .Values.route.enabled -}}
{{- range regexFindAll `(?m)^\s*address\s*=\s*["'][^"'\s]+["']` .Values.route.routes -1 -}}
{{- $found = append $found (printf "dicom://%s" (regexFind `[^"'\s]+["']$` . | trimAll `"'`)) -}}
{{- end -}}
{{- end -}}
{{- if .Values.notify.enabled -}}
{{- range list "nats" "celery" "cube" -}}
{{- with index $.Values.notify.options . -}}
{{- $found = concat $found (ternary . (list .) (kindIs "slice" .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.clean.enabled -}}
{{- with .Values.clean.options.identifiers -}}
{{- if regexMatch "^https?://" . -}}
{{- $found = append $found . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml (concat $found (include "listener.exportAddresses" . | fromYamlArray)) -}}
{{- end -}}

{{- /* The port of an address that names none. */ -}}
{{- define "listener.defaultPort" -}}
{{- get (dict "https" "443" "nats" "4222" "tls" "4222" "redis" "6379" "rediss" "6379" "sentinel" "26379" "amqp" "5672" "amqps" "5671") . | default "80" -}}
{{- end -}}

{{- /*
What may leave the pods so that these addresses can be reached, as a list of rules in YAML: names may be asked for, and each
address on its port. A policy knows numbers and pods, no names: a name outside of the cluster may be any address. Within the
cluster it sees the pod's port, which nobody knows here: then the Service's namespace is reached on all of its ports.
*/ -}}
{{- define "listener.hookEgress" -}}
{{- $rules := list -}}
{{- range include "listener.hookAddresses" . | fromYamlArray | uniq -}}
{{- $url := urlParse . -}}
{{- $host := $url.hostname -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (include "listener.defaultPort" $url.scheme) -}}
{{- $ports := list (dict "protocol" "TCP" "port" (int $port)) -}}
{{- $parts := splitList "." $host -}}
{{- if regexMatch "^[0-9.]+$" $host -}}
{{- $rules = append $rules (dict "to" (list (dict "ipBlock" (dict "cidr" (printf "%s/32" $host)))) "ports" $ports) -}}
{{- else if contains ":" $host -}}
{{- $rules = append $rules (dict "to" (list (dict "ipBlock" (dict "cidr" (printf "%s/128" $host)))) "ports" $ports) -}}
{{- else if eq (len $parts) 1 -}}
{{- $rules = append $rules (dict "to" (list (dict "podSelector" (dict)))) -}}
{{- else if and (gt (len $parts) 2) (eq (index $parts 2) "svc") -}}
{{- $rules = append $rules (dict "to" (list (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" (index $parts 1)))))) -}}
{{- else -}}
{{- $rules = append $rules (dict "ports" $ports) -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $rules = prepend $rules (dict "ports" (list (dict "protocol" "UDP" "port" 53) (dict "protocol" "TCP" "port" 53))) -}}
{{- end -}}
{{- toYaml $rules -}}
{{- end -}}
