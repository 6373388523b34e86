"""The command line: commands, flags, help and exit codes."""

from exporter.cli.commands import main

__all__ = ["main"]
