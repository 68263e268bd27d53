"""Authlib's resource protector in a Flask application, with both of its validators: one verifies Grantlog's tokens
through the JWKS (RFC 9068), one asks Grantlog about each (RFC 7662)."""

import flask
import pytest
import requests
from authlib.integrations.flask_oauth2 import ResourceProtector, current_token
from authlib.oauth2.rfc7662 import IntrospectTokenValidator
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from werkzeug.http import parse_dict_header

AUDIENCE = "https://protected.example"


class Verifies(JWTBearerTokenValidator):
    """As Authlib's documentation has it."""

    def __init__(self, server):
        super().__init__(issuer=server.url, resource_server=AUDIENCE)
        self.server = server

    def get_jwks(self):
        return requests.get(f"{self.server.url}/.well-known/jwks.json").json()


class Asks(IntrospectTokenValidator):
    """As Authlib's documentation has it, but for the URL."""

    def __init__(self, server, resource_server):
        super().__init__()
        self.server = server
        self.credentials = resource_server["client_id"], resource_server["client_secret"]

    def introspect_token(self, token_string):
        url = f"{self.server.url}/connect/introspect"
        answer = requests.post(url, data={"token": token_string}, auth=self.credentials)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="module")
def resource_server(administrator):
    administrator.register_api(AUDIENCE)
    return administrator.register("clients.test/protected-api", scope="introspect", audiences=[AUDIENCE])


@pytest.fixture(scope="module", params=["verifies", "asks"])
def protected(request, server, resource_server):
    """An API with one of the validators, called without a network."""
    protect = ResourceProtector()
    protect.register_token_validator(Verifies(server) if request.param == "verifies" else Asks(server, resource_server))
    app = flask.Flask(request.param)

    @app.get("/orders")
    @protect("read")
    def orders():
        return {"client_id": current_token["client_id"], "org_code": current_token.get("org_code")}

    @app.post("/orders")
    @protect("update")
    def order():
        return {}, 201

    return app.test_client()


@pytest.fixture
def caller(administrator, a_name):
    return administrator.register(a_name("clients.test/protected"), audiences=[AUDIENCE], org_code="ACME")


def token_of(server, made, **parameters):
    answer = requests.post(
        f"{server.url}/connect/token",
        data={"grant_type": "client_credentials", **parameters},
        auth=(made["client_id"], made["client_secret"]),
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def test_a_token_of_ours_opens_what_its_scope_allows(protected, server, caller):
    headers = bearer(token_of(server, caller, scope="read"))
    answer = protected.get("/orders", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json["client_id"] == caller["client_id"]
    assert answer.json["org_code"] == "ACME"
    refused = protected.post("/orders", headers=headers)
    assert (refused.status_code, refused.json["error"]) == (403, "insufficient_scope")
    assert protected.post("/orders", headers=bearer(token_of(server, caller))).status_code == 201


def test_a_token_for_another_api_opens_nothing(protected, server, application):
    answer = protected.get("/orders", headers=bearer(token_of(server, application)))
    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert "Bearer" in answer.headers["WWW-Authenticate"]


def test_what_is_no_token_opens_nothing(protected, server, caller):
    token = token_of(server, caller)
    for presented in ["nothing", token[:-8] + "AAAAAAAA", token.rpartition(".")[0] + "."]:
        answer = protected.get("/orders", headers=bearer(presented))
        assert (answer.status_code, answer.json["error"]) == (401, "invalid_token"), presented


@pytest.mark.parametrize(
    "token, path, status, challenge",
    [
        (None, "/verify", 401, {}),
        ("a.b.c", "/verify", 401, {"error": "invalid_token"}),
        ("good", "/verify?audience=https%3A%2F%2Fother.example", 401, {"error": "invalid_token"}),
        ("good", "/verify?audience={}&scope=delete", 403, {"error": "insufficient_scope", "scope": "delete"}),
        ("good", "/verify?audience={}&org_code=OTHER", 403, {"error": "insufficient_scope"}),
    ],
)
def test_grantlogs_own_challenges_are_read_by_an_http_library(
    server, resource_server, caller, token, path, status, challenge
):
    headers = {} if token is None else bearer(token_of(server, caller) if token == "good" else token)
    answer = requests.get(server.url + path.format("https%3A%2F%2Fprotected.example"), headers=headers)
    assert answer.status_code == status
    scheme, _, parameters = answer.headers["WWW-Authenticate"].partition(" ")
    assert scheme == "Bearer"
    # RFC 6750 §3: comma-separated, each once, and one at least; without a token that is the realm alone.
    read = parse_dict_header(parameters)
    assert read["realm"] == server.url
    assert challenge.items() <= read.items()
    assert set(read) <= {"realm", "error", "error_description", "scope"}
    assert ("error" in read) == (token is not None)
