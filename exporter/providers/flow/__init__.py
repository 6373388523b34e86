"""Provider of Alibaba Cloud Yunxiao Flow."""

from exporter.auth.aliyun import authentication
from exporter.providers.flow.project import PERSONAL_ENDPOINT, SIGNED_ENDPOINT, FlowProject
from exporter.providers.flow.provider import FlowProvider

__all__ = [
    "PERSONAL_ENDPOINT",
    "SIGNED_ENDPOINT",
    "FlowProject",
    "FlowProvider",
    "authentication",
]
