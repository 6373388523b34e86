"""Pictures of the dashboards without a Grafana server: each panel's queries run on a Prometheus, and the results are drawn."""
