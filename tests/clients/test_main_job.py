"""The main job, from the first start to the trail of all that was done, in one story."""

import time

import jwt
import pytest
import requests
from running_server import Administrator, RunningServer

CLIENT_ID = "my.trusted.app/service"
# Long enough for a token request by each secret on a busy machine, short enough to wait for its end.
OVERLAP_SECONDS = 5


@pytest.fixture
def server(tmp_path):
    running = RunningServer(tmp_path / "data")
    yield running
    assert running.stop() == 0


def by_form(server, secret, path="/connect/token", **parameters):
    body = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": secret, **parameters}
    return requests.post(server.url + path, data=body)


def by_json(server, secret):
    body = {"grantType": "client_credentials", "clientId": CLIENT_ID, "clientSecret": secret}
    return requests.post(f"{server.url}/token", json=body)


def test_register_grant_verify_rotate_disable_and_find_it_all_again(server):
    administrator = Administrator(server)
    began = administrator.get("/audit/events", limit=1)["log_size"]

    # Register.
    audience = "https://domain.example/api"
    administrator.register_api(audience, name="Domain API")
    made = administrator.register(CLIENT_ID, name="Integration service", audiences=[audience])
    assert (made["client_id"], made["system_user"]) == (CLIENT_ID, "svc.integration")
    old = made["client_secret"]

    # A token in each dialect.
    standard = by_form(server, old)
    assert standard.status_code == 200, standard.text
    of_audience = by_form(server, old, "/oauth2/token", audience=audience)
    assert of_audience.status_code == 200, of_audience.text
    of_json = by_json(server, old)
    assert of_json.status_code == 200, of_json.text
    tokens = [
        standard.json()["access_token"],
        of_audience.json()["access_token"],
        of_json.json()["data"]["accessToken"],
    ]

    # Each verifies by a library that is not ours.
    keys = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json")
    jtis = []
    for token in tokens:
        claims = jwt.decode(
            token,
            keys.get_signing_key_from_jwt(token),
            algorithms=["ES256"],
            audience=audience,
            issuer=server.url,
        )
        assert claims["sub"] == CLIENT_ID
        assert claims["client_system_user"] == "svc.integration"
        assert claims["scope"] == "read update DomainApi"
        jtis.append(claims["jti"])

    # Rotate: for the overlap both secrets work, then only the new one.
    path = f"/admin/applications/{made['id']}"
    rotated = administrator.post(f"{path}/secrets", {"overlap_seconds": OVERLAP_SECONDS, "reason": "yearly"})
    rotated_at = time.monotonic()
    new = rotated["client_secret"]
    assert new != old
    assert [by_form(server, secret).status_code for secret in (old, new)] == [200, 200]
    time.sleep(max(0, rotated_at + OVERLAP_SECONDS + 0.5 - time.monotonic()))
    assert [by_form(server, secret).status_code for secret in (old, new)] == [401, 200]

    # Disable: refused at once.
    administrator.post(f"{path}/disable", {"reason": "reported as leaked"})
    refused = by_form(server, new)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")

    # Each step is on the trail, in its order.
    trail = audit_trail(administrator, began)
    of_the_client = [event for event in trail if event["client_id"] == CLIENT_ID]
    assert [(event["type"], event["outcome"]) for event in of_the_client] == [
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
    facts = [event["data"] for event in of_the_client]
    assert [fact["jti"] for fact in facts[1:4]] == jtis
    assert [fact["dialect"] for fact in facts[1:4]] == ["standard", "audience", "json"]
    assert [fact["secret_id"] for fact in facts[5:7]] == [made["secret_id"], rotated["secret_id"]]
    assert (facts[7]["error"], facts[7]["reason"]) == ("invalid_client", "secret_expired")
    assert (facts[9]["reason"], facts[10]["reason"]) == ("reported as leaked", "disabled")
    assert of_the_client[0]["actor"] == of_the_client[4]["actor"] == "grantlog.admin"
    assert of_the_client[7]["source"]["ip"] == "127.0.0.1"

    # Every call that changed something is on it too, before the change.
    calls = [event for event in trail if event["type"] == "ApiCallAuthorized"]
    assert {call["data"]["path"] for call in calls} >= {"/admin/applications", f"{path}/secrets", f"{path}/disable"}

    # And no secret or token is, nor in any other file or the log.
    files = [file for file in server.data_dir.rglob("*") if file.is_file()]
    text = b"".join(file.read_bytes() for file in [*files, server.log])
    assert jtis[0].encode() in text, "these are not the files that the events are in"
    for secret in [old, new, *tokens]:
        assert secret.encode() not in text


def audit_trail(administrator, from_index):
    """All events from there on, oldest first, whatever a page holds."""
    events, after = [], {}
    while True:
        page = administrator.get("/audit/events", from_index=from_index, order="asc", limit=10, **after)
        events += page["events"]
        after = {"after": page["next"]}
        # To read the trail is on the trail: the last page is the one that shows only that.
        if all(event["type"] in ("AuditTrailRead", "ApiCallAuthorized") for event in page["events"]):
            break
    indexes = [event["index"] for event in events]
    assert indexes == list(range(from_index, from_index + len(indexes))), "an index is missing"
    return events
