#!/usr/bin/env bash
# Authlib's token endpoint refuses a client whose secret has a blank, if the client encodes it as OAuth 2.0 asks for.
#
# Versions:  Authlib 1.9.10, Flask 3.1.3.
# Behaviour: By RFC 6749 id and secret are encoded as a form's values before they go into HTTP Basic, and a form writes a
#            blank as `+`. Authlib decodes percent signs only: `a+secret` stays what it is, and the client is told
#            invalid_client. `a%20secret` is taken, and by the standard is the same. So a client that writes blanks as
#            %20 is understood by servers of both kinds, and one that uses a form encoder is not.
# Source:    RFC 6749, 2.3.1 and appendix B; authlib/oauth2/rfc6749/util.py, extract_basic_authorization.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check authlib==1.9.10 flask==3.1.3
cd "$place"
AUTHLIB_INSECURE_TRANSPORT=1 "$place/venv/bin/python" -W ignore - <<'PYTHON'
from base64 import b64encode
from urllib.parse import quote, quote_plus

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from flask import Flask

SECRET = "a secret"


class Client(ClientMixin):
    client_id = "a-client"

    def check_client_secret(self, client_secret):
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method, endpoint):
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type):
        return grant_type == "client_credentials"

    def get_allowed_scope(self, scope):
        return ""


app = Flask("tokens")
server = AuthorizationServer(app, query_client=lambda _: Client(), save_token=lambda token, request: None)
server.register_grant(grants.ClientCredentialsGrant)
app.add_url_rule("/token", "token", lambda: server.create_token_response(), methods=["POST"])


def status(encode):
    basic = b64encode(f"a-client:{encode(SECRET)}".encode()).decode()
    answer = app.test_client().post(
        "/token", data={"grant_type": "client_credentials"}, headers={"Authorization": f"Basic {basic}"}
    )
    return answer.status_code


found = {"a%20secret": status(quote), "a+secret": status(quote_plus)}
for written, code in found.items():
    print(f"{code}  {written}")
assert found == {"a%20secret": 200, "a+secret": 401}
PYTHON
