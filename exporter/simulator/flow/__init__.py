"""A simulated Alibaba Cloud Yunxiao Flow, with both generations of its API on one port."""

from exporter.simulator.flow.auth_check import FlowCredentials
from exporter.simulator.flow.cloud import Flow

__all__ = ["Flow", "FlowCredentials"]
