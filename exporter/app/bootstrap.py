"""Build the parts of an exporter from a configuration, without starting them."""

import os
from collections.abc import Collection, Mapping

from exporter.app.cloud_access import CloudAccess
from exporter.app.exporter import Exporter
from exporter.core.clock import Clock
from exporter.core.shard import Shard
from exporter.exposition import Variant
from exporter.polling.progress import Progress, ignore_progress
from exporter.settings.settings import Config
from exporter.state.repository import StateRepository
from exporter.state.sqlite import SqliteStore, StoredState
from exporter.telemetry.recorder import Telemetry


def assemble(
    config: Config,
    clock: Clock,
    environment: Mapping[str, str] = os.environ,
    *,
    shard: Shard | None = None,
    store: SqliteStore | None = None,
    stored: StoredState | None = None,
    progress: Progress = ignore_progress,
    variants: Collection[Variant] = (),
) -> Exporter:
    """Build the exporter of a configuration, or of a shard's part of it.

    `stored` is the content of `store`. `progress` is called as polls advance. `variants` of /metrics are rendered even if
    no client has requested them.

    Raises:
        SetupError: a certificate authority cannot be loaded.

    """
    telemetry = Telemetry(created_series=config.metrics.created_series, shard=shard)
    return Exporter(
        config,
        clock,
        access=CloudAccess(clock, environment),
        telemetry=telemetry,
        repository=StateRepository(config, telemetry, clock, store=store, stored=stored, shard=shard),
        shard=shard,
        progress=progress,
        variants=variants,
    )
