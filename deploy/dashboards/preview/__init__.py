"""Pictures of the dashboards without a Grafana server, drawn from the results of their queries on a Prometheus."""
