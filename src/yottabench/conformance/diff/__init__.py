"""What changed between two OpenAPI documents, and which changes break clients of the old one."""

from yottabench.conformance.diff.changes import Change
from yottabench.conformance.diff.operations import compare

__all__ = ["Change", "compare"]
