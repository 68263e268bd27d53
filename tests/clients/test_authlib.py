"""Authlib's clients: requests and httpx, synchronous and asynchronous."""

import asyncio

import httpx
import pytest
import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client
from authlib.integrations.requests_client import OAuth2Session

METHODS = ["client_secret_basic", "client_secret_post"]


def fetch_by_httpx_asynchronously(client_id, client_secret, url, method, **parameters):
    async def fetch():
        async with AsyncOAuth2Client(client_id, client_secret, token_endpoint_auth_method=method) as client:
            return await client.fetch_token(url, **parameters)

    return asyncio.run(fetch())


def fetch_by_httpx(client_id, client_secret, url, method, **parameters):
    with OAuth2Client(client_id, client_secret, token_endpoint_auth_method=method) as client:
        return client.fetch_token(url, **parameters)


def fetch_by_requests(client_id, client_secret, url, method, **parameters):
    with OAuth2Session(client_id, client_secret, token_endpoint_auth_method=method) as client:
        return client.fetch_token(url, **parameters)


CLIENTS = [fetch_by_requests, fetch_by_httpx, fetch_by_httpx_asynchronously]
every_client = pytest.mark.parametrize("fetch", CLIENTS, ids=lambda client: client.__name__)
every_method = pytest.mark.parametrize("method", METHODS)


@every_method
@every_client
def test_a_token_is_granted(fetch, method, application, token_endpoint):
    token = fetch(
        application["client_id"],
        application["client_secret"],
        token_endpoint,
        method,
        grant_type="client_credentials",
        scope="read update",
    )
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 3600
    assert token["scope"] == "read update"
    assert token["access_token"].count(".") == 2


@every_method
@every_client
def test_a_token_for_an_audience_is_granted(fetch, method, administrator, a_name, server):
    audience = f"https://{a_name('api')}.example"
    administrator.register_api(audience)
    made = administrator.register(a_name("clients.test/audience"), audiences=[audience])
    token = fetch(
        made["client_id"],
        made["client_secret"],
        f"{server.url}/oauth2/token",
        method,
        grant_type="client_credentials",
        audience=audience,
    )
    assert token["scope"] == "read update DomainApi"


@every_method
@every_client
def test_a_refusal_is_understood(fetch, method, refusal, server):
    with pytest.raises(AuthlibBaseError) as raised:
        fetch(
            refusal.client_id,
            refusal.client_secret,
            server.url + refusal.path,
            method,
            grant_type=refusal.grant_type,
            **refusal.parameters,
        )
    assert (raised.value.error, raised.value.description) == (refusal.error, refusal.description)


@every_client
def test_a_log_that_cannot_be_written_is_a_503(fetch, failing_server):
    server, client_id, client_secret = failing_server
    # Authlib does not look into the body of a 5xx.
    with pytest.raises((requests.HTTPError, httpx.HTTPStatusError)) as raised:
        fetch(
            client_id,
            client_secret,
            f"{server.url}/connect/token",
            "client_secret_basic",
            grant_type="client_credentials",
        )
    answer = raised.value.response
    assert (answer.status_code, answer.json()) == (503, {"error": "temporarily_unavailable"})
    assert answer.headers["Retry-After"] == "1"


def test_the_session_presents_its_token_to_an_api(administrator, server, a_name):
    made = administrator.register(a_name("clients.test/reader"), scope="applications:read")
    with OAuth2Session(made["client_id"], made["client_secret"]) as client:
        client.fetch_token(f"{server.url}/connect/token", grant_type="client_credentials")
        assert client.get(f"{server.url}/admin/applications").status_code == 200
        refused = client.post(f"{server.url}/admin/applications", json={"application_uri": "x"})
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
