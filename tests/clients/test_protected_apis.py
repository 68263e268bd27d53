"""APIs that check tokens themselves: the three of examples/, each in its own language, and all alike to callers.

They answer as RFC 6750 has it, see only what is for them, and tell Grantlog of every call."""

import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from running_server import BINARY, PATIENCE_SECONDS, ROOT, Administrator, RunningServer, free_port

AUDIENCE = "https://orders.example"
EXAMPLES = ROOT / "examples"
NODE = shutil.which("node")
RUN = {
    "rust": [BINARY.parent / "examples" / "protected_api"],
    "python": [sys.executable, EXAMPLES / "python" / "protected_api.py"],
    "node": [NODE, EXAMPLES / "node" / "protected_api.mjs"],
}
HOW_TO_BUILD = {
    "rust": "cargo build --examples",
    "python": "pip install -r examples/python/requirements.txt",
    "node": "install Node 20 or later, and run npm ci in examples/node",
}


class ProtectedApi:
    """One of the examples, on a port of its own, stopped by the test that started it."""

    def __init__(self, language, issuer, made, log):
        program = RUN[language][-1]
        is_there = RUN[language][0] is not None and program.exists()
        is_there = is_there and (language != "node" or (EXAMPLES / "node" / "node_modules").exists())
        assert is_there, f"the {language} example cannot run: {HOW_TO_BUILD[language]}"
        self.log = log
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRANTLOG_")}
        environment |= {
            "GRANTLOG_ISSUER": issuer,
            "API_AUDIENCE": AUDIENCE,
            "GRANTLOG_CLIENT_ID": made["client_id"],
            "GRANTLOG_CLIENT_SECRET": made["client_secret"],
        }
        with open(log, "ab") as said:
            self.process = subprocess.Popen(RUN[language], stdout=said, stderr=said, env=environment)
        until = time.monotonic() + PATIENCE_SECONDS
        while not (found := re.search(r"^listening on (\S+)", log.read_text(), re.MULTILINE)):
            assert self.process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.02)
        self.url = found[1]

    def stop(self):
        """Asks it to stop, which it does when everything is reported; answers its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def reporter(administrator):
    administrator.register_api(AUDIENCE)
    return administrator.register("clients.test/orders-api", scope="calls:report", audiences=[AUDIENCE, administrator.url])


@pytest.fixture(scope="module", params=RUN)
def api(request, server, reporter, tmp_path_factory):
    running = ProtectedApi(request.param, server.url, reporter, tmp_path_factory.mktemp(request.param) / "stderr")
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture
def caller(administrator, a_name):
    """Registers an application for the API, and answers with it and a token."""

    def register(scope=None, **attributes):
        made = administrator.register(
            a_name("clients.test/caller"), audiences=[AUDIENCE], org_code="ACME", **attributes
        )
        return made, token_of(administrator.url, made, scope=scope)

    return register


def token_of(url, made, **parameters):
    answer = requests.post(
        f"{url}/connect/token",
        data={"grant_type": "client_credentials", **{name: value for name, value in parameters.items() if value}},
        auth=(made["client_id"], made["client_secret"]),
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


def call(api, token=None, path="/orders", method="GET", **headers):
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    answer = requests.request(method, api.url + path, headers=headers)
    return answer.status_code, answer.headers.get("WWW-Authenticate"), answer


# RFC 6750 §3: the scheme is followed by a parameter at least.
REALM = f'Bearer realm="{AUDIENCE}"'


def invalid(description):
    return f'{REALM}, error="invalid_token", error_description="{description}"'


def test_whoever_has_the_scope_is_let_in(api, caller):
    made, token = caller()
    status, challenge, answer = call(api, token)
    assert (status, challenge) == (200, None)
    assert answer.json() == {"orders": [7, 8], "for": made["client_id"]}
    assert call(api, token, method="POST")[0] == 201


def test_the_claims_can_be_inspected(api, caller):
    """What TokenIDP calls inspecting a token: every claim of the contract, as the API sees it."""
    made, token = caller(properties={"region": "eu"})
    claims = call(api, token, path="/token")[2].json()
    assert set(claims) == {
        *("iss", "sub", "aud", "client_id", "azp", "gty", "scope", "scp", "iat", "nbf", "exp", "jti"),
        *("client_system_user", "org_code", "application_properties"),
    }
    assert claims["sub"] == claims["azp"] == claims["client_id"] == made["client_id"]
    assert claims["aud"] == [AUDIENCE]
    assert claims["gty"] == ["client_credentials"]
    assert claims["scope"].split() == claims["scp"] == ["read", "update", "DomainApi"]
    assert claims["client_system_user"] == "svc.integration"
    assert claims["org_code"] == "ACME"
    assert claims["application_properties"] == {"region": {"v": "eu"}}
    assert claims["exp"] - claims["iat"] == 3600 and claims["nbf"] == claims["iat"]


def test_a_token_opens_its_own_organisation_alone(api, caller, administrator, a_name):
    """Kinde's rule: a token that is bound to an organisation is for that one."""
    _, token = caller()
    other = f'{REALM}, error="insufficient_scope", error_description="the token is not bound to this organisation"'
    assert call(api, token, path="/orgs/ACME/orders")[2].json() == {"org": "ACME", "orders": [7]}
    for organisation in ["OTHER", "acme", "ACME%20"]:
        assert call(api, token, path=f"/orgs/{organisation}/orders")[:2] == (403, other)
    unbound = administrator.register(a_name("clients.test/unbound"), audiences=[AUDIENCE])
    unbound = token_of(administrator.url, unbound)
    assert call(api, unbound, path="/orgs/ACME/orders")[:2] == (403, other)
    assert call(api, unbound)[0] == 200


def test_without_a_token_the_challenge_says_no_more_than_that_one_is_needed(api):
    # RFC 6750 §3.1.
    for headers in [{}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}]:
        assert call(api, **headers)[:2] == (401, REALM), headers


def test_a_token_without_the_scope_is_told_which_it_lacks(api, caller):
    _, token = caller(scope="read")
    assert call(api, token)[0] == 200
    refused = (403, f'{REALM}, error="insufficient_scope", scope="update"')
    assert call(api, token, method="POST")[:2] == refused


def test_two_tokens_are_none(api, caller):
    _, token = caller()
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"))
    connection.putrequest("GET", "/orders")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Authorization", "Bearer another")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 400
    assert answer.getheader("WWW-Authenticate").startswith(f'{REALM}, error="invalid_request"')


def test_what_is_no_token_for_this_api_is_invalid(api, caller, administrator, server, a_name):
    _, token = caller()
    head, claims, signature = token.split(".")
    kid = jwt.get_unverified_header(token)["kid"]
    own_key = ec.generate_private_key(ec.SECP256R1())
    said = jwt.decode(token, options={"verify_signature": False})
    elsewhere = token_of(server.url, administrator.register(a_name("clients.test/elsewhere")))

    def forged(**header):
        return jwt.encode(said, own_key, "ES256", headers={"kid": kid, "typ": "at+jwt", **header})

    def encoded(part):
        return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()

    unsigned = {"alg": "none", "kid": kid, "typ": "at+jwt"}
    not_ours = "it is not a token of this issuer"
    for presented, description in [
        ("gls_secret", not_ours),
        (f"{head}.{claims}", not_ours),
        (f"{head}.{claims}.{'A' * 86}", "its signature is wrong"),
        (f"{head}.{encoded({**said, 'scope': 'everything'})}.{signature}", "its signature is wrong"),
        (forged(), "its signature is wrong"),
        (forged(kid="1970-01-01"), "its key is not known"),
        (forged(typ="JWT"), None),
        (forged(jwk=json.loads(jwt.algorithms.ECAlgorithm.to_jwk(own_key.public_key()))), not_ours),
        (forged(crit=["b64"], b64=True), not_ours),
        (f"{encoded(unsigned)}.{claims}.", None),
        (f"{encoded({**unsigned, 'alg': 'HS256'})}.{claims}.{signature}", None),
        (elsewhere, "it is for another audience"),
        ("x" * 20_000, None),
    ]:
        status, challenge, _ = call(api, presented)
        if len(presented) > 16_000 and status in (400, 431):
            continue  # the framework takes no head of that size
        assert status == 401, presented
        assert challenge.startswith(f'{REALM}, error="invalid_token", error_description="'), presented
        assert description is None or challenge == invalid(description), presented


def test_a_token_that_is_over_is_invalid(api, reporter, tmp_path, server):
    """One of this very issuer and key whose time is over: the API's clock is what counts, so it gets one of its own."""
    # Nothing here can wait for a minute and a half: the shortest token lives for 60 s, and 30 s are leeway.
    key, kid = ec.generate_private_key(ec.SECP256R1()), "of-a-test"
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    published = json.dumps({"keys": [{**public, "kid": kid, "alg": "ES256", "use": "sig"}]}).encode()

    class Issuer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(published)))
            self.end_headers()
            self.wfile.write(published)

        def do_POST(self):
            # It takes every report, and gives the token for it.
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"access_token": "t", "recorded": 0, "duplicates": 0}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    issuer = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    threading.Thread(target=issuer.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{issuer.server_port}"
    language = next(name for name, command in RUN.items() if command == api.process.args)
    running = ProtectedApi(language, url, reporter, tmp_path / "stderr")
    now = int(time.time())
    of_now = {"nbf": now, "exp": now + 60}
    claims = {"iss": url, "aud": [AUDIENCE], "sub": "a", "client_id": "a", "scope": "read", "iat": now}
    claims["jti"] = "6f1c2a34-0000-4000-8000-000000000001"
    for changed, description in [
        (of_now, None),
        ({"nbf": now - 100, "exp": now - 10}, None),
        ({"nbf": now + 10, "exp": now + 60}, None),
        ({"nbf": now - 100, "exp": now - 40}, "it has expired"),
        ({"nbf": now + 60, "exp": now + 120}, "it is not valid yet"),
        ({**of_now, "iss": "http://another.example"}, "it is of another issuer"),
        ({**of_now, "aud": ["https://another.example"]}, "it is for another audience"),
        ({"nbf": now}, "it is not a token of this issuer"),
    ]:
        token = jwt.encode({**claims, **changed}, key, "ES256", headers={"kid": kid, "typ": "at+jwt"})
        expected = (200, None) if description is None else (401, invalid(description))
        assert call(running, token)[:2] == expected, changed
    assert running.stop() == 0
    issuer.shutdown()


def test_every_call_is_reported_with_how_it_ended(api, caller, administrator):
    made, token = caller(scope="read")
    expected = [
        ("ApiCallAuthorized", "GET", "/orders", "read", None, 200),
        ("ApiCallDenied", "POST", "/orders", "update", "insufficient_scope", 403),
        ("ApiCallDenied", "GET", "/orgs/OTHER/orders", "read", "org_mismatch", 403),
    ]
    agent = {"User-Agent": f"reported/{made['client_id'].rpartition('-')[2]}"}
    call(api, token, path="/orders?secret=hidden", **agent)
    call(api, token, method="POST", **agent)
    call(api, token, path="/orgs/OTHER/orders", **agent)
    events = reported(administrator, made["client_id"], len(expected))
    found = [
        (event["type"], *(event["data"].get(name) for name in ("method", "path", "required_scope", "reason")))
        for event in events
    ]
    assert found == [entry[:5] for entry in expected]
    jti = jwt.decode(token, options={"verify_signature": False})["jti"]
    for event, (*_, status) in zip(events, expected):
        data = event["data"]
        assert data["via"] == "reported"
        assert (data["audience"], data["jti"]) == (AUDIENCE, jti)
        assert data["report"]["status"] == status
        assert data["report"]["source"] == {"ip": "127.0.0.1", "user_agent": agent["User-Agent"]}
        assert "hidden" not in json.dumps(event)


def test_a_target_in_its_absolute_form_is_reported_by_its_path(api, caller, administrator):
    """RFC 9112 §3.2.2: any server takes it. A report that names a host for a path would be refused, and the call lost."""
    made, token = caller(scope="read")
    address = api.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address)
    connection.putrequest("GET", "http://evil.example/orders?secret=hidden", skip_host=True)
    connection.putheader("Host", address)
    connection.putheader("Authorization", f"Bearer {token}")
    connection.endheaders()
    assert connection.getresponse().status == 200
    [event] = reported(administrator, made["client_id"], 1)
    assert (event["type"], event["data"]["path"]) == ("ApiCallAuthorized", "/orders")


def reported(administrator, client_id, count):
    """The reported calls of an application, in the order in which they were, when there are so many."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = administrator.get("/audit/events", client_id=client_id, order="asc")["events"]
        found = [event for event in found if event["data"].get("via") == "reported"]
        if len(found) >= count:
            return sorted(found, key=lambda event: event["data"]["report"]["time"])
        assert time.monotonic() < until, f"{len(found)} of {count} calls are reported"
        time.sleep(0.1)


@pytest.mark.parametrize("language", RUN)
def test_calls_are_reported_once_when_grantlog_was_away_in_between(language, tmp_path):
    listen = f"127.0.0.1:{free_port()}"
    server = RunningServer(tmp_path / "data", listen=listen)
    administrator = Administrator(server)
    administrator.register_api(AUDIENCE)
    made = administrator.register("orders-api", scope="calls:report", audiences=[AUDIENCE, server.url])
    caller = administrator.register("caller", audiences=[AUDIENCE], scope="read")
    token = token_of(server.url, caller)
    api = ProtectedApi(language, server.url, made, tmp_path / "stderr")
    assert call(api, token)[0] == 200
    reported(administrator, "caller", 1)
    assert server.stop() == 0
    # Tokens are checked without asking anybody.
    for _ in range(5):
        assert call(api, token)[0] == 200
    until = time.monotonic() + PATIENCE_SECONDS
    while "could not be reported yet" not in api.log.read_text():
        assert time.monotonic() < until, "nothing was tried"
        time.sleep(0.05)
    server = RunningServer(tmp_path / "data", listen=listen)
    # It stops when everything is acknowledged.
    assert api.stop() == 0
    administrator = Administrator(server)
    events = reported(administrator, "caller", 6)
    assert len(events) == 6
    assert len({event["id"] for event in events}) == 6
    assert server.stop() == 0
