"""The main job, from the first start to the trail of all that was done, in one story: administration by the command
line, tokens over HTTP, verification by a library that is not ours."""

import json
import subprocess
import time

import jwt
import pytest
import requests
from running_server import BINARY, PATIENCE_SECONDS, Administrator, RunningServer

CLIENT_ID = "my.trusted.app/service"
AUDIENCE = "https://domain.example/api"
# Long enough for a token request by each secret on a busy machine, short enough to wait for its end.
OVERLAP_SECONDS = 15


@pytest.fixture
def server(tmp_path):
    running = RunningServer(tmp_path / "data")
    yield running
    assert running.stop() == 0


def grantlog(server, *arguments):
    """What a command prints with --json: one value a line."""
    done = subprocess.run(
        [BINARY, *arguments, "--json", "--data-dir", server.data_dir],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stderr}"
    return done.stdout


def by_form(server, secret, path="/connect/token", **parameters):
    body = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": secret, **parameters}
    return requests.post(server.url + path, data=body)


def by_json(server, secret):
    body = {"grantType": "client_credentials", "clientId": CLIENT_ID, "clientSecret": secret}
    return requests.post(f"{server.url}/token", json=body)


def test_register_grant_verify_rotate_disable_and_find_it_all_again(server):
    # Register.
    grantlog(server, "api", "register", AUDIENCE, "--name", "Domain API")
    attributes = ["--system-user", "svc.integration", "--scope", "read update DomainApi", "--audience", AUDIENCE]
    made = json.loads(grantlog(server, "app", "register", CLIENT_ID, *attributes))
    old = made["client_secret"]

    # A token in each dialect.
    standard = by_form(server, old)
    assert standard.status_code == 200, standard.text
    of_audience = by_form(server, old, "/oauth2/token", audience=AUDIENCE)
    assert of_audience.status_code == 200, of_audience.text
    of_json = by_json(server, old)
    assert of_json.status_code == 200, of_json.text
    tokens = [
        standard.json()["access_token"],
        of_audience.json()["access_token"],
        of_json.json()["data"]["accessToken"],
    ]

    # Each verifies.
    keys = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json")
    jtis = []
    for token in tokens:
        claims = jwt.decode(
            token,
            keys.get_signing_key_from_jwt(token),
            algorithms=["ES256"],
            audience=AUDIENCE,
            issuer=server.url,
        )
        assert claims["sub"] == CLIENT_ID
        assert claims["client_system_user"] == "svc.integration"
        assert claims["scope"] == "read update DomainApi"
        jtis.append(claims["jti"])

    # Rotate: for the overlap both secrets work, then only the new one.
    rotate = ["app", "rotate-secret", CLIENT_ID, "--overlap", str(OVERLAP_SECONDS), "--reason", "yearly"]
    rotated = json.loads(grantlog(server, *rotate))
    rotated_at = time.monotonic()
    new = rotated["client_secret"]
    assert new != old
    assert [by_form(server, secret).status_code for secret in (old, new)] == [200, 200]
    time.sleep(max(0, rotated_at + OVERLAP_SECONDS + 0.5 - time.monotonic()))
    assert [by_form(server, secret).status_code for secret in (old, new)] == [401, 200]

    # Disable: refused at once.
    grantlog(server, "app", "disable", CLIENT_ID, "--reason", "reported as leaked")
    refused = by_form(server, new)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")

    # Each step is on the trail, in its order.
    Administrator(server).search(limit=1)
    search = ["audit", "search", "--client-id", CLIENT_ID, "--order", "asc", "--all"]
    trail = [json.loads(line) for line in grantlog(server, *search).splitlines()]
    assert [(event["type"], event["outcome"]) for event in trail] == [
        ("ApplicationRegistered", "success"),
        ("TokenIssued", "success"),
        ("TokenIssued", "success"),
        ("TokenIssued", "success"),
        ("SecretRotated", "success"),
        ("TokenIssued", "success"),
        ("TokenIssued", "success"),
        ("TokenRefused", "refused"),
        ("TokenIssued", "success"),
        ("ApplicationDisabled", "success"),
        ("TokenRefused", "refused"),
    ]
    facts = [event["data"] for event in trail]
    assert [fact["jti"] for fact in facts[1:4]] == jtis
    assert [fact["dialect"] for fact in facts[1:4]] == ["standard", "audience", "json"]
    assert [fact["secret_id"] for fact in facts[5:7]] == [made["secret_id"], rotated["secret_id"]]
    assert (facts[7]["error"], facts[7]["reason"]) == ("invalid_client", "secret_expired")
    assert (facts[9]["reason"], facts[10]["reason"]) == ("reported as leaked", "disabled")
    assert trail[0]["actor"] == trail[4]["actor"] == "grantlog.admin"
    assert trail[7]["source"]["ip"] == "127.0.0.1"

    # Every call that changed something is on it before the change, and no index is missing.
    lines = grantlog(server, "audit", "search", "--order", "asc", "--all").splitlines()
    everything = [json.loads(line) for line in lines]
    assert [event["index"] for event in everything] == list(range(len(everything)))
    for change in ("ApiRegistered", "ApplicationRegistered", "SecretRotated", "ApplicationDisabled"):
        index = max(event["index"] for event in everything if event["type"] == change and event["actor"] != "system")
        before = everything[index - 1]
        assert (before["type"], before["data"]["required_scope"]) == ("ApiCallAuthorized", "applications:write")

    # No secret and no token is on it, nor in any other file or the log. The administrator's own is in its profile.
    files = [file for file in server.data_dir.rglob("*") if file.is_file()]
    text = b"".join(file.read_bytes() for file in [*files, server.log])
    assert jtis[0].encode() in text, "these are not the files that the events are in"
    for secret in [old, new, *tokens]:
        assert secret.encode() not in text
