"""Every metric's name, in one room: what servers, devices and language clients count, and how it gets out."""

from splitrt.metrics.device import Audited, DeviceMetrics
from splitrt.metrics.server import ServerMetrics
from splitrt.metrics.text import TextMetrics

__all__ = ["Audited", "DeviceMetrics", "ServerMetrics", "TextMetrics"]
