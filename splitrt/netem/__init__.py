"""A userspace link emulator: a trace, a shape made of it, and a proxy that obeys the shape.

The tunnel, which obeys it under the kernel's own TCP, needs Linux and root and is imported by its own name.
"""

from splitrt.netem.proxy import Netem
from splitrt.netem.shape import Shape
from splitrt.netem.trace import Trace

__all__ = ["Netem", "Shape", "Trace"]
