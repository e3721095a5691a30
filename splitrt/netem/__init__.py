"""A userspace TCP link emulator: a trace, a shape made of it, and a proxy that obeys the shape."""

from splitrt.netem.proxy import Netem
from splitrt.netem.shape import Shape
from splitrt.netem.trace import Trace

__all__ = ["Netem", "Shape", "Trace"]
