"""The server does what /openapi.json says, and refuses what it does not say: schemathesis makes the requests."""

import json
from pathlib import Path
from uuid import UUID

import pytest
import requests
import schemathesis
from running_server import ROOT
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig

DOCUMENT = (ROOT / "src" / "http" / "openapi.json").read_text()
schema = schemathesis.openapi.from_dict(
    json.loads(DOCUMENT.replace("{issuer}", "http://127.0.0.1")),
    config=SchemathesisConfig.from_path(Path(__file__).with_name("schemathesis.toml")),
)

# What is acceptable here depends on more than one value can say: whether an audience is registered, whether two
# scopes have one name, whether an API uses an algorithm, whether the secret is right, whether `until` is later
# than `since`, whether a cursor came with the same query, which of the parameters a report has, whether
# `as_of` is past, whether a client proves itself twice, whether each line of a text is a call, whether an application has the scope that its reference token is to have.
BEYOND_A_SCHEMA = {
    "GET /admin/tokens",
    "POST /admin/applications/{id}/reference-tokens",
    "GET /admin/applications",
    "GET /admin/applications/{id}",
    "GET /admin/apis",
    "GET /admin/apis/{id}",
    "GET /admin/signing-keys",
    "POST /admin/applications",
    "PATCH /admin/applications/{id}",
    "POST /admin/apis",
    "PATCH /admin/apis/{id}",
    "POST /admin/signing-keys/rotate",
    "GET /audit/events",
    "GET /audit/export",
    "GET /audit/export/manifest",
    "GET /audit/stats",
    "GET /audit/reports/{name}",
    "GET /admin/applications/{id}/diff",
    "POST /connect/token",
    "POST /id/connect/token",
    "POST /oauth2/token",
    "POST /token",
    "POST /connect/introspect",
    "POST /connect/revoke",
    "POST /audit/api-calls",
}


@schemathesis.serializer("application/x-ndjson")
def as_lines(ctx, value):
    # A text is sent as it is; what is none breaks the schema on purpose.
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "surrogatepass")


accepts_what_is_valid = CHECKS.get_one("positive_data_acceptance")


@pytest.fixture(scope="session")
def subject(administrator):
    """What path parameters point at, for each operation its own: what one deletes, another changes."""
    made = {}

    def subject_of(operation):
        if operation not in made:
            name = f"openapi.test/{len(made)}"
            if operation.split()[1].startswith("/admin/apis"):
                made[operation] = administrator.register_api(f"https://{name}")
            else:
                made[operation] = administrator.register(name, reference_tokens="AdministratorsOnly")
        return made[operation]

    return subject_of


@pytest.fixture(scope="session")
def reference_token(administrator, subject):
    """The id of a token of the operation's own application."""
    made = {}

    def id_of_token(operation):
        if operation not in made:
            path = f"/admin/applications/{subject(operation)['id']}/reference-tokens"
            made[operation] = administrator.post(path, {"description": operation})["id"]
        return made[operation]

    return id_of_token


# It has no end to wait for: tests/http/audit_tail.rs.
@schema.exclude(operation_id="followEvents").parametrize()
def test_operation(case, server, administrator, subject, reference_token):
    operation = case.operation.label
    # An id that nobody has is answered 404 and shows little.
    if is_uuid(case.path_parameters.get("id")):
        case.path_parameters["id"] = subject(operation)["id"]
    if is_uuid(case.path_parameters.get("secret_id")):
        case.path_parameters["secret_id"] = subject(operation)["secret_id"]
    if operation.startswith("DELETE /admin/sessions") and is_uuid(case.path_parameters.get("id")):
        case.path_parameters["id"] = administrator.get("/admin/sessions")["sessions"][0]["id"]
    for name in {"jti", "token_id"} & set(case.path_parameters):
        if is_uuid(case.path_parameters[name]):
            case.path_parameters[name] = reference_token(operation)
    # JSON Schema takes 60.0 for an integer; the server does not, and no client writes it.
    if isinstance(case.body, dict):
        case.body = with_whole_numbers(case.body)
    # The token endpoint is given what the case has, and nothing else.
    headers = {} if case.operation.path.endswith("/token") else dict(administrator.session.headers)
    case.call_and_validate(
        base_url=server.url,
        headers=headers,
        excluded_checks=[accepts_what_is_valid] if operation in BEYOND_A_SCHEMA else [],
    )


def with_whole_numbers(value):
    if isinstance(value, dict):
        return {name: with_whole_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [with_whole_numbers(member) for member in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_uuid(text):
    try:
        return str(UUID(text)) == text
    except (TypeError, ValueError):
        return False


def test_the_administrator_was_let_in_to_the_end(server, administrator):
    # Or the answers above were all 401, which the document allows.
    assert administrator.get("/admin/applications")["applications"]
    assert administrator.get("/admin/signing-keys")["keys"]


def test_the_document_that_is_served_is_the_one_that_was_tested(server):
    served = requests.get(f"{server.url}/openapi.json").json()
    assert served == json.loads(DOCUMENT.replace("{issuer}", server.url))
