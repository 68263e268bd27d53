"""A request for every error that the token endpoint has, for clients to make in their own way."""

from dataclasses import dataclass, field

import requests

# Failures of one client from one source before it is slowed down: `lockout.max_failures`.
FAILURES_BEFORE_SLOW_DOWN = 20


@dataclass
class Refusal:
    """What to ask for, and what comes of it."""

    client_id: str
    client_secret: str
    error: str
    description: str
    status: int = 400
    path: str = "/connect/token"
    grant_type: str = "client_credentials"
    parameters: dict = field(default_factory=dict)


def invalid_client(administrator, name):
    made = administrator.register(name)
    return Refusal(made["client_id"], "wrong", "invalid_client", "Invalid client_id or client_secret", 401)


def invalid_client_because_unknown(administrator, name):
    return Refusal(name, "wrong", "invalid_client", "Invalid client_id or client_secret", 401)


def invalid_client_because_disabled(administrator, name):
    made = administrator.register(name, is_enabled=False)
    return Refusal(
        made["client_id"], made["client_secret"], "invalid_client", "Invalid client_id or client_secret", 401
    )


def invalid_grant(administrator, name):
    return Refusal(name, "", "invalid_grant", "Client credentials are invalid or missing")


def invalid_request(administrator, name):
    made = administrator.register(name)
    return Refusal(
        made["client_id"], made["client_secret"], "invalid_request", "Missing audience", path="/oauth2/token"
    )


def invalid_scope(administrator, name):
    made = administrator.register(name)
    return Refusal(
        made["client_id"],
        made["client_secret"],
        "invalid_scope",
        "Invalid scope: admin",
        parameters={"scope": "read admin"},
    )


def invalid_target(administrator, name):
    made = administrator.register(name)
    return Refusal(
        made["client_id"],
        made["client_secret"],
        "invalid_target",
        "The client is not authorized for the audience: https://other.example",
        parameters={"resource": "https://other.example"},
    )


def unauthorized_client(administrator, name):
    made = administrator.register(name, system_user=None)
    return Refusal(
        made["client_id"],
        made["client_secret"],
        "unauthorized_client",
        "The client is not authorized to use this grant type",
    )


def unauthorized_client_for_the_audience(administrator, name):
    made = administrator.register(name)
    return Refusal(
        made["client_id"],
        made["client_secret"],
        "unauthorized_client",
        "The client is not authorized for the audience: https://other.example",
        parameters={"audience": "https://other.example"},
    )


def unsupported_grant_type(administrator, name):
    made = administrator.register(name)
    return Refusal(
        made["client_id"],
        made["client_secret"],
        "unsupported_grant_type",
        "Unsupported grant type: urn:ietf:params:oauth:grant-type:device_code",
        grant_type="urn:ietf:params:oauth:grant-type:device_code",
    )


def slow_down(administrator, name):
    for _ in range(FAILURES_BEFORE_SLOW_DOWN):
        answer = requests.post(
            f"{administrator.url}/connect/token", data={"grant_type": "client_credentials"}, auth=(name, "wrong")
        )
        assert answer.status_code == 401, answer.text
    return Refusal(name, "wrong", "slow_down", "Too many failed requests", 429)


REFUSALS = [
    invalid_client,
    invalid_client_because_unknown,
    invalid_client_because_disabled,
    invalid_grant,
    invalid_request,
    invalid_scope,
    invalid_target,
    unauthorized_client,
    unauthorized_client_for_the_audience,
    unsupported_grant_type,
    slow_down,
]
