"""`python -m exporter` is `pipeline-exporter`."""

from exporter.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
