"""Metric families about the pipeline itself, apart from its runs."""

from exporter.core.model import LABEL_LENGTH
from exporter.metrics.family import Family, MetricType, Sample, gauge
from exporter.tracking.views import View


def pipeline(user_labels: tuple[str, ...]) -> tuple[Family[View], ...]:
    """Return the families about the pipeline; `user_labels` are the names of configured labels."""

    def info(view: View) -> tuple[Sample, ...]:
        configured = dict(view.pipeline.labels)
        values = (view.pipeline.url, *(configured.get(name, "")[:LABEL_LENGTH] for name in user_labels))
        return (Sample(values, 1.0),)

    return (
        Family(
            name="ci_pipeline_info",
            type=MetricType.INFO,
            help="URL and configured labels of the pipeline; always 1.",
            labels=("url", *(f"label_{name}" for name in user_labels)),
            samples=info,
        ),
        gauge(
            "ci_pipeline_up",
            "Whether the last poll that covered the pipeline succeeded (1) or failed (0).",
            lambda view: None if view.up is None else float(view.up),
        ),
        gauge(
            "ci_pipeline_has_run",
            "Whether the provider returned a run of the pipeline (1) or none (0).",
            lambda view: None if view.has_run is None else float(view.has_run),
        ),
    )
