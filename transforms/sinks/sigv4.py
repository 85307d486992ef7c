"""Signature Version 4 of requests that differ only in their body, date and credentials.

The algorithm is AWS's, "Create a signed AWS API request" in the IAM User Guide. botocore's own signer gives the same
for any request, at ten times the cost: most of it is about headers and paths that never change here.
"""

import hmac
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from botocore.credentials import ReadOnlyCredentials

_DATE, _TOKEN = "x-amz-date", "x-amz-security-token"


class _Moment(NamedTuple):
    """What all signatures of one second with the same credentials have in common."""

    second: int
    credentials: ReadOnlyCredentials
    date: str
    scope: str
    key: bytes


class _Form(NamedTuple):
    """The canonical request: up to the value of the date, from there to the token, and from there to the body's hash.

    `names` are those of the signed headers.
    """

    before: str
    between: str
    after: str
    names: str


class Signer:
    """Signs POST requests to one URL. Several threads may use it.

    Args:
        region: of the credential scope.
        service: of the credential scope, such as `kinesis`.
        path: of the URL, normalized and quoted as the canonical request wants it.
        headers: the headers that are signed, by their names in lower case, `host` among them. Values have no spaces at
            their ends, nor two in a row. `x-amz-date` and `x-amz-security-token` are added to them.
    """

    def __init__(self, region: str, service: str, path: str, headers: Mapping[str, str]) -> None:
        self._scope = f"{region}/{service}/aws4_request"
        self._path = path
        self._headers = dict(headers)
        self._moment: _Moment | None = None
        self._plain = self._form(with_token=False)
        self._with_token = self._form(with_token=True)

    def lines(self, body: bytes, credentials: ReadOnlyCredentials, now: float) -> str:
        """The header lines that sign a request, each with its CRLF: date, token if there is one, authorization.

        Args:
            body: of the request.
            credentials: as they are now. A refreshed set is another one.
            now: seconds since the epoch, by the service's clock.
        """
        moment = self._moment
        if moment is None or moment.second != int(now) or moment.credentials != credentials:
            moment = self._moment = self._new_moment(int(now), credentials)
        token = credentials.token
        form = self._with_token if token else self._plain
        signed_token = " ".join(token.split()) if token else ""
        canonical = f"{form.before}{moment.date}{form.between}{signed_token}{form.after}{sha256(body).hexdigest()}"
        to_sign = f"AWS4-HMAC-SHA256\n{moment.date}\n{moment.scope}\n{sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(moment.key, to_sign.encode(), "sha256").hex()
        token_line = f"X-Amz-Security-Token: {token}\r\n" if token else ""
        return (
            f"X-Amz-Date: {moment.date}\r\n{token_line}Authorization: AWS4-HMAC-SHA256 Credential="
            f"{credentials.access_key}/{moment.scope}, SignedHeaders={form.names}, Signature={signature}\r\n"
        )

    def _new_moment(self, second: int, credentials: ReadOnlyCredentials) -> _Moment:
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        scope = f"{date[:8]}/{self._scope}"
        before = self._moment
        if before is not None and before.scope == scope and before.credentials == credentials:
            return before._replace(second=second, date=date)
        key = b"AWS4" + (credentials.secret_key or "").encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return _Moment(second, credentials, date, scope, key)

    def _form(self, *, with_token: bool) -> _Form:
        names = sorted({*self._headers, _DATE, *([_TOKEN] if with_token else [])})
        listed = ";".join(names)
        lines = [f"{name}:{self._headers.get(name, '')}\n" for name in names]
        date = names.index(_DATE) + 1
        token = names.index(_TOKEN) + 1 if with_token else date
        parts = ["".join(part).removesuffix("\n") for part in (lines[:date], lines[date:token], lines[token:])]
        before = f"POST\n{self._path}\n\n{parts[0]}"
        between = f"\n{parts[1]}" if with_token else ""
        rest = f"\n{parts[2]}" if parts[2] else ""
        return _Form(before, between, f"{rest}\n\n{listed}\n", listed)
