"""The codes of the envelope, the HTTP status that goes with each, and the one error that handlers raise."""

from enum import IntEnum


class Code(IntEnum):
    """`code` of the envelope; meanings as in the vendor's guide."""

    SUCCESS = 10000
    INVALID = 10001
    SYSTEM_ERROR = 10002
    NO_RECORD = 10007
    ENDPOINT_NOT_FOUND = 14000
    NOT_ACCEPTING_TASKS = 24000
    WRONG_STATE = 24002
    TASK_NOT_FOUND = 24011
    UNAUTHENTICATED = 40101
    NO_SUCH_PATH = 40400
    TOO_MANY_REQUESTS = 429


HTTP_STATUS = {
    Code.SUCCESS: 200,
    Code.INVALID: 400,
    Code.SYSTEM_ERROR: 500,
    Code.NO_RECORD: 404,
    Code.ENDPOINT_NOT_FOUND: 404,
    Code.NOT_ACCEPTING_TASKS: 409,
    Code.WRONG_STATE: 409,
    Code.TASK_NOT_FOUND: 404,
    Code.UNAUTHENTICATED: 401,
    Code.NO_SUCH_PATH: 404,
    Code.TOO_MANY_REQUESTS: 429,
}


class ApiError(Exception):
    """A request is refused: `code` for programs, `message` for people (what, which, what next)."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        http_status: int | None = None,
        retry_after_s: int | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = http_status if http_status is not None else HTTP_STATUS[Code(code)]
        self.retry_after_s = retry_after_s
        self.allow = allow


def endpoint_not_found(endpoint_id: str) -> ApiError:
    """Also for endpoints of another API key: whose they are is nobody else's business."""
    return ApiError(
        Code.ENDPOINT_NOT_FOUND,
        f"Endpoint {endpoint_id} does not exist for this API key. List yours with GET /v2/serverless.",
    )
