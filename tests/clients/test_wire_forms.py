"""What clients in other languages put on the wire: the libraries are not there, their requests are."""

import base64
import hashlib
from urllib.parse import quote_plus, urlencode

import pytest
import requests

# Every character that form-encoding, Basic or a URL gives a meaning to.
SPECIAL_SECRET = "p+ss w%rd%3A:ü/=&\"?#\\~"


def post(url, body, basic=None, **headers):
    if basic is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(basic.encode()).decode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    return requests.post(url, data=body, headers=headers)


def token_of(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


@pytest.fixture
def special(administrator, a_name):
    """An application whose id has slashes and whose imported secret has every special character."""
    made = administrator.register(
        a_name("my.trusted.app/service:1@eu~x"),
        application_secret_hash=base64.b64encode(hashlib.sha256(SPECIAL_SECRET.encode()).digest()).decode(),
    )
    assert "client_secret" not in made, "a secret that was imported is not shown"
    return made["client_id"], SPECIAL_SECRET


def test_go_form_encodes_id_and_secret_inside_basic(special, token_endpoint):
    # golang.org/x/oauth2 internal/token.go: req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
    client_id, secret = special
    basic = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    assert "+" in basic and "%2B" in basic and "%2F" in basic
    token_of(post(token_endpoint, "grant_type=client_credentials&scope=read+update", basic))


def test_spring_form_encodes_too_and_says_utf_8(special, token_endpoint):
    # DefaultOAuth2TokenRequestHeadersConverter: URLEncoder.encode(id, UTF_8), and these headers.
    client_id, secret = special
    answer = post(
        token_endpoint,
        "grant_type=client_credentials&scope=read+update",
        f"{quote_plus(client_id)}:{quote_plus(secret)}",
        **{"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8", "Accept": "application/json"},
    )
    token_of(answer)


def test_the_same_secret_in_the_body(special, token_endpoint):
    client_id, secret = special
    body = urlencode({"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret})
    token_of(post(token_endpoint, body))


def test_percent_encoded_spaces_are_spaces(special, token_endpoint):
    # encodeURIComponent, as JavaScript clients have it, writes %20.
    client_id, secret = special
    plain = quote_plus(secret).replace("+", "%20")
    token_of(post(token_endpoint, "grant_type=client_credentials", f"{quote_plus(client_id)}:{plain}"))


def test_generated_secrets_need_no_encoding(application, token_endpoint):
    # curl -u, Python's requests and older Spring do not encode.
    basic = f"{application['client_id']}:{application['client_secret']}"
    assert basic == f"{quote_plus(application['client_id'], safe='/')}:{quote_plus(application['client_secret'])}"
    token_of(post(token_endpoint, "grant_type=client_credentials", basic))


def test_auto_detection_tries_basic_then_the_body(special, token_endpoint):
    # Go's AuthStyleAutoDetect, and Postman's: when Basic is refused, whatever for, the body is tried. Here an
    # old client that does not encode inside Basic: refused, for `%3A` and `+` then mean other characters.
    client_id, secret = special
    first = post(token_endpoint, "grant_type=client_credentials", f"{client_id}:{secret}")
    assert first.status_code in (400, 401)
    second = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    token_of(post(token_endpoint, urlencode(second)))


def test_auto_detection_locks_nobody_out(application, token_endpoint):
    # Each try of a wrong secret fails twice; a person tries a few times.
    client_id, secret = application["client_id"], application["client_secret"]
    for _ in range(5):
        assert post(token_endpoint, "grant_type=client_credentials", f"{client_id}:typo").status_code == 401
        body = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": "typo"}
        assert post(token_endpoint, urlencode(body)).status_code == 401
    token_of(post(token_endpoint, "grant_type=client_credentials", f"{client_id}:{secret}"))


def test_a_401_names_the_scheme_to_use(application, token_endpoint, server):
    # RFC 6749 §5.2: Go and Java clients read the challenge.
    answer = post(token_endpoint, "grant_type=client_credentials", f"{application['client_id']}:typo")
    assert answer.headers["WWW-Authenticate"] == f'Basic realm="{server.url}"'
    assert answer.headers["Cache-Control"] == "no-store"


def test_types_are_what_strict_clients_expect(application, token_endpoint):
    # The Rust oauth2 crate and Go refuse a textual expires_in, older ones a missing token_type.
    answer = post(
        token_endpoint,
        "grant_type=client_credentials",
        f"{application['client_id']}:{application['client_secret']}",
    )
    assert {name: type(value) for name, value in answer.json().items()} == {
        "access_token": str,
        "expires_in": int,
        "token_type": str,
        "scope": str,
    }
    assert answer.headers["Content-Type"] == "application/json"


def test_auth0_and_kinde_clients_ask_with_an_audience(administrator, a_name, server):
    audience = f"https://{a_name('kinde')}.example/api"
    administrator.register_api(audience, scopes=[{"name": "read"}])
    made = administrator.register(a_name("clients.test/kinde"), audiences=[audience])
    body = {
        "grant_type": "client_credentials",
        "client_id": made["client_id"],
        "client_secret": made["client_secret"],
        "audience": audience,
    }
    answer = post(f"{server.url}/oauth2/token", urlencode(body))
    token_of(answer)
    assert answer.json()["scope"] == "read", "only the scopes that the API defines"


def test_json_clients_get_json(application, server):
    body = {
        "grantType": "client_credentials",
        "clientId": application["client_id"],
        "clientSecret": application["client_secret"],
        "scope": "read",
    }
    answer = requests.post(f"{server.url}/token", json=body).json()
    assert answer["isSuccess"] is True
    assert set(answer["data"]) == {"accessToken", "tokenType", "expiresIn", "scope"}
    refused = requests.post(f"{server.url}/token", json={**body, "clientSecret": "wrong"})
    assert refused.status_code == 401
    assert refused.json() == {
        "isSuccess": False,
        "error": {"code": "invalid_client", "message": "Invalid client_id or client_secret"},
    }
