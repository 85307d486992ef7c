"""Who makes the calls that put records: the carrier where it can, or else boto3."""

import logging
import threading
from collections.abc import Mapping
from typing import Any, Generic

from transforms.sinks.aws_boto3 import Boto3Call
from transforms.sinks.aws_carrier import Carrier, NotCarriedError
from transforms.sinks.aws_clients import Access, Sessions
from transforms.sinks.aws_connections import Connections
from transforms.sinks.aws_operations import AnswerT_co, Call, Called, Operation
from transforms.sinks.base import AwsClient

logger = logging.getLogger(__name__)


class Callers:
    """Makes the calls of the sinks of a worker, which share their connections, and sessions of boto3.

    Args:
        aws_client: whether boto3 makes all calls.
    """

    def __init__(self, aws_client: AwsClient = "auto") -> None:
        self.connections = Connections()
        self.sessions = Sessions()
        self.aws_client = aws_client
        self._told: set[str] = set()

    def tell(self, operation: str, why: str) -> None:
        """Say, once for each reason, that boto3 makes calls."""
        if why not in self._told:
            self._told.add(why)
            logger.warning("%s goes through boto3, which takes more processor time: %s", operation, why)


class OperationCall(Generic[AnswerT_co]):
    """A Call that finds out with its first call who makes it.

    Args:
        operation: what is called.
        access: how the service is reached.
        callers: of the worker.
    """

    def __init__(self, operation: Operation[AnswerT_co], access: Access, callers: Callers) -> None:
        self._operation = operation
        self._access = access
        self._callers = callers
        self._call: Call[AnswerT_co] | None = None
        self._deciding = threading.Lock()

    def __call__(self, content: Mapping[str, Any]) -> Called[AnswerT_co]:
        return (self._call or self._decide())(content)

    def _decide(self) -> Call[AnswerT_co]:
        # Not when the sink is opened: without credentials, say, a call fails, and the next may find some.
        with self._deciding:
            if self._call is None:
                self._call = self._chosen()
            return self._call

    def _chosen(self) -> Call[AnswerT_co]:
        if self._callers.aws_client == "auto":
            try:
                return Carrier(self._operation, self._access, self._callers.connections)
            except NotCarriedError as reason:
                self._callers.tell(self._operation.name, str(reason))
        return Boto3Call(self._operation, self._access.client)

    def close(self) -> None:
        """Give back what calls have in common. The client stays open."""
        with self._deciding:
            call, self._call = self._call, None
        if isinstance(call, Carrier):
            call.close()
