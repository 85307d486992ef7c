"""A token endpoint of OAuth 2.0 by Authlib's authorization server: client credentials, by basic auth or in the body."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from flask import Flask, request
from werkzeug.serving import make_server

CLIENT = "the client's id"
SECRET = "hunter+secret/of %the client"


class _Client(ClientMixin):  # type: ignore[misc]
    def get_client_id(self) -> str:
        return CLIENT

    def get_allowed_scope(self, scope: str | None) -> str:
        asked = (scope or "").split()
        return " ".join(each for each in asked if each in ("statements/write", "all"))

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in ("client_secret_basic", "client_secret_post")

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Grant(grants.ClientCredentialsGrant):  # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "client_secret_post")


class TokenServer:
    """Serves `/token` on 127.0.0.1 while `running`.

    Attributes:
        life: seconds that a token is good for.
        status: answers with this instead, if it is set.
        granted: the tokens, each with the monotonic time at which it ends.
        asked: the forms of all requests, with the header Authorization.
    """

    def __init__(self, life: int = 3600) -> None:
        self.life = life
        self.status: int | None = None
        self.granted: dict[str, float] = {}
        self.asked: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        os.environ.setdefault("AUTHLIB_INSECURE_TRANSPORT", "1")  # It serves on this machine alone.
        app = Flask("token-server")
        authorization = AuthorizationServer(app, query_client=self._client, save_token=self._save)
        authorization.register_grant(_Grant)
        authorization.register_token_generator("client_credentials", self._generate)

        @app.post("/token")
        def issue() -> Any:
            with self._lock:
                self.asked.append({**request.form.to_dict(), "authorization": request.headers.get("Authorization")})
            if self.status is not None:
                return "", self.status
            return authorization.create_token_response()

        self._app = app

    def _client(self, client_id: str) -> _Client | None:
        return _Client() if client_id == CLIENT else None

    def _generate(self, **_: Any) -> dict[str, Any]:
        number = len(self.granted) + 1
        return {"access_token": f"hunter-token-{number}-{id(self):x}", "token_type": "Bearer", "expires_in": self.life}

    def _save(self, token: dict[str, Any], _: Any) -> None:
        with self._lock:
            self.granted[token["access_token"]] = time.monotonic() + self.life

    def is_good(self, authorization: str | None) -> bool:
        """Whether a header has a token that has not ended."""
        token = (authorization or "").removeprefix("Bearer ")
        return time.monotonic() < self.granted.get(token, 0.0)

    def revoke(self) -> None:
        """End all tokens that were granted."""
        with self._lock:
            self.granted = dict.fromkeys(self.granted, 0.0)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve until the context ends; gives the address of the endpoint."""
        for name in ("werkzeug", "authlib"):
            logging.getLogger(name).setLevel(logging.ERROR)  # Authlib logs the tokens that it grants.
        server = make_server("127.0.0.1", 0, self._app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}/token"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
