"""Drivers that several test files share.

- `support`: a fake clock and small configurations.
- `process`: the exporter as a process, and its pages.
- `probe`: health latency and memory of a running exporter.
- `rawcloud`: a server whose bytes a test chooses.
- `virtual_time`: an event loop in virtual time.
- `kill_load`: short runs in real time, and an exporter that is killed repeatedly.
- `audit`: the counters that an exporter must show after a scenario.
- `summary_lists`: a scenario for clouds whose lists lack stages.
- `views`: hand-made views of pipelines.
- `vendor_environment`: environments for the vendors' SDKs.
- `hang.c`: a library that makes fsync hang.
"""
