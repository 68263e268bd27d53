"""requests-oauthlib with oauthlib's BackendApplicationClient."""

import oauthlib.oauth2.rfc6749.errors as errors
import pytest
from oauthlib.oauth2 import BackendApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session


def fetch(client_id, client_secret, url, method, **parameters):
    client = BackendApplicationClient(client_id=client_id, scope=parameters.pop("scope", None))
    client.grant_type = parameters.pop("grant_type", client.grant_type)
    session = OAuth2Session(client=client)
    if method == "client_secret_basic":
        # The library does not form-encode id and secret (RFC 6749 §2.3.1). Generated ones need none.
        credentials = {"auth": HTTPBasicAuth(client_id, client_secret)}
    else:
        credentials = {"client_secret": client_secret, "include_client_id": True}
    return session.fetch_token(token_url=url, **credentials, **parameters)


every_method = pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])


@every_method
def test_a_token_is_granted(method, application, token_endpoint):
    token = fetch(
        application["client_id"], application["client_secret"], token_endpoint, method, scope=["read", "update"]
    )
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 3600
    assert set(token.scopes) == {"read", "update"}


@every_method
def test_without_a_scope_all_of_the_applications_are_granted(method, application, token_endpoint):
    token = fetch(application["client_id"], application["client_secret"], token_endpoint, method)
    assert set(token.scopes) == {"read", "update", "DomainApi"}


@every_method
def test_a_narrower_grant_is_said_and_so_raises_only_a_warning(method, application, token_endpoint):
    # `openid` has no meaning for a service and is dropped. The library takes a changed scope for an error
    # (a Warning that it raises) unless it is told to relax; the answer must name the granted scope either way.
    arguments = (application["client_id"], application["client_secret"], token_endpoint, method)
    with pytest.raises(Warning) as raised:
        fetch(*arguments, scope=["openid", "read"])
    assert raised.value.new_scope == ["read"]
    assert set(raised.value.old_scope) == {"openid", "read"}


@every_method
def test_a_narrower_grant_is_accepted_when_relaxed(method, application, token_endpoint, monkeypatch):
    monkeypatch.setenv("OAUTHLIB_RELAX_TOKEN_SCOPE", "1")
    token = fetch(
        application["client_id"], application["client_secret"], token_endpoint, method, scope=["openid", "read"]
    )
    assert token.scope == "read"


# What the library makes of each code. It has no class for RFC 8707's, and takes the first of several for
# invalid_request.
CLASSES = {
    "invalid_client": errors.InvalidClientError,
    "invalid_grant": errors.InvalidGrantError,
    "invalid_scope": errors.InvalidScopeError,
    "unauthorized_client": errors.UnauthorizedClientError,
    "unsupported_grant_type": errors.UnsupportedGrantTypeError,
    "temporarily_unavailable": errors.TemporarilyUnavailableError,
}


@every_method
def test_a_refusal_is_understood(method, refusal, server):
    with pytest.raises(errors.OAuth2Error) as raised:
        fetch(
            refusal.client_id,
            refusal.client_secret,
            server.url + refusal.path,
            method,
            grant_type=refusal.grant_type,
            **refusal.parameters,
        )
    assert isinstance(raised.value, CLASSES.get(refusal.error, errors.OAuth2Error))
    assert (raised.value.error, raised.value.description) == (refusal.error, refusal.description)


@every_method
def test_a_log_that_cannot_be_written_is_temporarily_unavailable(method, failing_server):
    server, client_id, client_secret = failing_server
    with pytest.raises(errors.TemporarilyUnavailableError):
        fetch(client_id, client_secret, f"{server.url}/connect/token", method)
