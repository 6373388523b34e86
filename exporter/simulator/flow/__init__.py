"""A simulated Alibaba Cloud Yunxiao Flow, both generations of its API on one port."""

from exporter.simulator.flow.cloud import Flow
from exporter.simulator.flow.credentials import FlowCredentials

__all__ = ["Flow", "FlowCredentials"]
