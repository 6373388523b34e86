"""Provider of Alibaba Cloud Yunxiao Flow."""

from exporter.auth.aliyun import authentication
from exporter.providers.flow.fields import FIELDS, SERVICE
from exporter.providers.flow.project import PERSONAL_ENDPOINT, SIGNED_ENDPOINT, FlowProject
from exporter.providers.flow.provider import FlowProvider

__all__ = [
    "FIELDS",
    "PERSONAL_ENDPOINT",
    "SERVICE",
    "SIGNED_ENDPOINT",
    "FlowProject",
    "FlowProvider",
    "authentication",
]
