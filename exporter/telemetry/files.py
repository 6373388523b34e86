"""Metrics about the configuration in force, and whether the last load of each configuration file succeeded."""

from prometheus_client import CollectorRegistry

from exporter.telemetry import families


class FileTelemetry:
    """The metrics about the configuration and the web configuration file. Each is absent before its first value."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._has_config = False
        self._config_reloaded = families.CONFIG_RELOADED.create(None)
        self._config_reload_time = families.CONFIG_RELOAD_TIME.create(None)
        self._config_hash = families.CONFIG_HASH.create(None)
        self._has_web_config = False
        self._web_config_reloaded = families.WEB_CONFIG_RELOADED.create(None)

    def config_in_force(self, digest: str, now: float) -> None:
        """Record that the configuration with this hash came into force at `now` (Unix seconds)."""
        if not self._has_config:
            self._has_config = True
            for gauge in (self._config_reloaded, self._config_reload_time, self._config_hash):
                self._registry.register(gauge)
        self._config_reloaded.set(1)
        self._config_reload_time.set(now)
        self._config_hash.clear()
        self._config_hash.labels(digest).set(1)

    def config_rejected(self) -> None:
        """Record that the configuration could not be loaded, so that the previous one stays in force."""
        self._config_reloaded.set(0)

    def set_web_config_reloaded(self, *, succeeded: bool) -> None:
        """Set whether the last read of the web configuration file succeeded."""
        if not self._has_web_config:
            self._has_web_config = True
            self._registry.register(self._web_config_reloaded)
        self._web_config_reloaded.set(succeeded)
