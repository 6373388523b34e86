"""Tests of real processes and of other programs: Prometheus, vendor SDKs, kubectl."""
