"""Building blocks of settings: YAML with line numbers, strict sections, types, secrets.

Providers and authentication build their own settings from them. `exporter/settings/` combines all of them.
"""
