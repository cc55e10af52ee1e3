"""Contains shared errors types that can be raised from API functions"""

from collections.abc import Mapping


class UnexpectedAnswer(Exception):
    """Base of the errors below: an answer arrived, but not one that the OpenAPI document describes"""

    def __init__(self, status_code: int, content: bytes, headers: Mapping[str, str]):
        self.status_code = status_code
        self.content = content
        self.headers = headers

        super().__init__(f"{type(self).__name__}: HTTP status {status_code}, {len(content)} bytes of body")


class UnexpectedStatus(UnexpectedAnswer):
    """The answer has an HTTP status that is not documented for the operation"""


class UnreadableAnswer(UnexpectedAnswer):
    """The answer has a documented HTTP status, but its body is not what is documented for it; see __cause__"""


__all__ = ["UnexpectedAnswer", "UnexpectedStatus", "UnreadableAnswer"]
