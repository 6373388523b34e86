"""The single source of recording rules and alerts: `make rules` writes the files for Prometheus and Grafana."""
