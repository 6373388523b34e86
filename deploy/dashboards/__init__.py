"""The single source of the Grafana dashboards: `make dashboards` writes them to deploy/grafana."""
