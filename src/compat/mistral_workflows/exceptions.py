"""The exceptions of Mistral Workflows. Everything that this library raises itself is an `OutlastError`."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from outlast.core.errors import ActivityError as ActivityError


class ErrorCode(StrEnum):
    """The subjects of a `WorkflowsException`. Those of Mistral's HTTP API are left out."""

    EXECUTION_ERROR = "execution_error"
    ACTIVITY_DEFINITION_ERROR = "activity_definition_error"
    ACTIVITY_NOT_FOUND_ERROR = "activity_not_found_error"
    INVALID_ARGUMENTS_ERROR = "invalid_arguments_error"
    TOOL_ARGUMENT_ERROR = "tool_argument_error"
    RATE_LIMIT_ERROR = "rate_limit_error"
    WORKFLOW_DEFINITION_ERROR = "workflow_definition_error"
    WORKFLOW_ALREADY_STARTED = "workflow_already_started"
    WORKFLOW_NOT_FOUND = "workflow_not_found"
    INVALID_PARAMS_ERROR = "invalid_params_error"
    WORKFLOW_TIMEOUT_ERROR = "workflow_timeout_error"
    AGENT_EXECUTION_ERROR = "agent_execution_error"


class WorkflowsException(Exception):
    """An error with a code. `Runner.run` raises it for a run that ends without an answer.

    A journal keeps its class and its message. The other attributes are those of the class when it comes back
    from there.
    """

    message: str = ""
    status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR
    code: ErrorCode = ErrorCode.EXECUTION_ERROR
    type: str = "invalid_request_error"

    def __init__(
        self,
        message: str,
        status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR,
        code: ErrorCode = ErrorCode.EXECUTION_ERROR,
        type: str = "invalid_request_error",
        **others: Any,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.type = message, status, code, type
        for name, value in others.items():
            setattr(self, name, value)


class WorkflowError(Exception):
    """An error of user code. After one that is `non_retryable`, an activity is not tried again.

    `next_retry_delay` has no effect: the options of the activity decide.
    """

    non_retryable: bool = False

    def __init__(
        self,
        message: str = "",
        *details: Any,
        type: str | None = None,
        non_retryable: bool = False,
        next_retry_delay: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.details, self.type = message, details, type
        self.non_retryable, self.next_retry_delay = non_retryable, next_retry_delay
