"""Vertex AI and Claude as they behave, on real sockets, with faults that are switched while they run.

For the demo, for `completion-proxy simulate` and for every test. It imports nothing of the rest of `proxy`: it is an
independent check of it, down to its own reading of the wire formats.
"""

from .claude import SimulatedClaude
from .faults import FOREVER, Fault, FaultError
from .record import RecordedRequest
from .run import simulate
from .server import SimulatedProvider
from .vertex import SimulatedVertex

__all__ = [
    "FOREVER",
    "Fault",
    "FaultError",
    "RecordedRequest",
    "SimulatedClaude",
    "SimulatedProvider",
    "SimulatedVertex",
    "simulate",
]
