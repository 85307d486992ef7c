"""What goes over HTTP for a statement that is forwarded as it is: in the receiver's version of xAPI, and with the data
of its attachments (docs/spec/statements.md section 5). It is all decided here before anything is sent."""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from transforms.forwarders import HttpTarget
from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.http_errors import why
from transforms.sinks.lacks import lack_in, lacking
from transforms.sinks.multipart import (
    MOST_BYTES,
    CorruptError,
    Multipart,
    NoPlaceError,
    Part,
    TooLargeError,
    multipart,
)
from transforms.statements.attachment_files import AttachmentFiles
from transforms.statements.attachments import Attachment, attachments_of
from transforms.statements.versions import FIRST, NotSayableError, as_first, own_version, speaks_second

logger = logging.getLogger(__name__)

VERSION_HEADER = "X-Experience-API-Version"

AS_FIRST = "as_1_0_3"
"""The remark of a statement of version 2.0 that was sent as one of 1.0.3."""

LEFT_OUT = "attachment_left_out"
"""The remark of a statement that was sent without data that was not there, but has a url."""


class StatementRequest(NamedTuple):
    """The request for one statement.

    Attributes:
        statement: as the receiver gets it.
        headers: those that differ from statement to statement.
        remarks: what a receipt is to say if it is delivered.
        body: the statement with its attachments; None if it is sent alone.
    """

    statement: bytes
    headers: dict[str, str]
    remarks: tuple[str, ...] = ()
    body: Multipart | None = None

    def close(self) -> None:
        """Remove what is on the disk."""
        if self.body is not None:
            self.body.close()


class StatementRequests:
    """Makes the requests for one forwarder's statements.

    Args:
        forwarder_id: for the log.
        target: of the forwarder.
        files: where the data of attachments is looked for.
    """

    def __init__(self, forwarder_id: str, target: HttpTarget, files: AttachmentFiles) -> None:
        self._forwarder_id = forwarder_id
        self._sends_attachments = target.send_attachments
        self._files = files
        # What the forwarder says itself: its headers before its xapiVersion.
        named = [value.reveal() for name, value in target.headers if name.lower() == VERSION_HEADER.lower()]
        self._version = next(iter(named), target.xapi_version)
        self._is_second = self._version is not None and speaks_second(self._version)
        self._warned = False

    async def request(self, statement: bytes) -> StatementRequest | AttemptResult:
        """The request for a statement; or what becomes of it without one.

        Args:
            statement: its text, as it was read.
        """
        remarks: tuple[str, ...] = ()
        sent = statement
        if not self._is_second:
            try:
                sent = as_first(statement)
            except NotSayableError as error:
                return _refused("version", str(error))
            if sent is not statement:
                remarks = (AS_FIRST,)
        headers = {VERSION_HEADER: self._version or own_version(sent) or FIRST}
        attachments = attachments_of(sent)
        if not attachments:
            return StatementRequest(sent, headers, remarks)
        if not self._sends_attachments:
            return self._without_data(attachments) or StatementRequest(sent, headers, remarks)
        return await asyncio.get_running_loop().run_in_executor(
            None, self._with_data, StatementRequest(sent, headers, remarks), attachments
        )

    def _without_data(self, attachments: Sequence[Attachment]) -> AttemptResult | None:
        """What becomes of a statement whose attachments need their data; None if they do not."""
        needing = next((attachment for attachment in attachments if not attachment.has_url), None)
        if needing is None:
            return None
        if not self._warned:
            self._warned = True
            logger.warning(
                "forwarder %s: a statement has an attachment without a fileUrl, and the document does not set "
                "sendAttachments: such statements become dead letters (attachment_not_sent). Set sendAttachments to "
                "true, and say with --attachments where the data is",
                self._forwarder_id,
            )
        return _refused("attachment_not_sent", f"attachment {needing.sha2}: it has no fileUrl, and no data is sent")

    def _with_data(
        self, request: StatementRequest, attachments: Sequence[Attachment]
    ) -> StatementRequest | AttemptResult:
        """The request with all data that is there."""
        parts: dict[str, Part] = {}
        left_out = False
        try:
            for attachment in attachments:
                digest = (attachment.sha2 or "").lower()
                if digest in parts:
                    continue
                opener = self._files.find(digest)
                if opener is not None:
                    parts[digest] = Part(attachment, opener)
                elif attachment.has_url:
                    left_out = True
                else:
                    return _refused("attachment_missing", f"attachment {attachment.sha2}: there is no such file")
            body = multipart(request.statement, list(parts.values())) if parts else None
        except CorruptError as error:
            return _refused("attachment_corrupt", f"attachment {error}: the data of its file has another hash")
        except TooLargeError:
            return _refused("attachment_oversize", f"the statement and its data have more than {MOST_BYTES} bytes")
        except NoPlaceError as error:
            return lacking(str(error))
        except Exception as error:
            # Whatever the client of a file system raises. Its text may hold a url with credentials.
            lack = lack_in(error)
            return (
                AttemptResult(Verdict.RETRY, "attachment_unreadable", response=why(error))
                if lack is None
                else lacking(lack)
            )
        headers = request.headers if body is None else {**request.headers, "Content-Type": body.content_type}
        remarks = (*request.remarks, LEFT_OUT) if left_out else request.remarks
        return request._replace(headers=headers, remarks=remarks, body=body)


def _refused(reason: str, why: str) -> AttemptResult:
    """A dead letter before anything was sent."""
    return AttemptResult(Verdict.GIVE_UP, reason, response=why, spends_attempt=False)
