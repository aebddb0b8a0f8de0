"""What Prometheus and Grafana make of the metrics: the alert rules, the dashboard, and a scene to try both on."""
