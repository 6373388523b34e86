"""Drivers that several test files share.

- `support`: a fake clock and small configurations.
- `process`: the exporter as a process, and its metrics page.
- `probe`: health latency and memory of a running exporter.
- `rawcloud`: a server whose bytes a test chooses.
- `virtual_time`: an event loop in virtual time.
- `drill`, `poll_now`: an exporter on a simulated cloud in virtual time.
- `kill_load`: short runs in real time, and an exporter that is killed repeatedly.
- `audit`, `streaks`: the counters and failure streaks that an exporter must show after a scenario.
- `summary_lists`: a scenario for clouds whose lists lack stages.
- `past`, `history`: three weeks of scripted runs, and the blocks of a Prometheus that scraped them.
- `views`: hand-made views of pipelines.
- `prometheus`, `rules`, `dashboards`: Prometheus, promtool, and the queries of dashboards.
- `browser`: a headless Chromium.
- `manifests`: Kubernetes manifests.
- `certificates`, `tools`: certificates, and third-party programs.
- `vendor_environment`: environments for the vendors' SDKs.
- `hang.c`: a library that makes fsync hang.
"""
