"""A proxy that passes bytes on as they are, and holds what passes to the document."""

from yottabench.conformance.proxy.tunnel import Target, Tunnel
from yottabench.conformance.proxy.watching import Watcher

__all__ = ["Target", "Tunnel", "Watcher"]
