"""pipeline-exporter: CI/CD pipelines of the cloud as Prometheus metrics."""

__version__ = "0.2.0"
