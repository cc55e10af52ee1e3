"""Holds a running deployment to the document: within a budget, reading only unless told otherwise, and cleaning up."""

from yottabench.conformance.live.run import Wishes, run

__all__ = ["Wishes", "run"]
