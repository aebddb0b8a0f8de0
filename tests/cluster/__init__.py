"""The chart in a real Kubernetes: any KUBECONFIG, and CLUSTER_LOAD, which puts an image archive into its nodes."""
