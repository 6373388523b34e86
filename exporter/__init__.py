"""pipeline-exporter: CI/CD pipelines of the cloud as Prometheus metrics."""

__version__ = "0.1.0"
