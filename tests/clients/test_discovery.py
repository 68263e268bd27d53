"""Clients that know no more than the issuer."""

import jwt
import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from authlib.oidc.discovery import get_well_known_url as get_openid_well_known_url
from running_server import Administrator, RunningServer, free_port


@pytest.fixture(scope="module", params=["", "/id", "/tenants/one"], ids=["no path", "/id", "two segments"])
def issuer(request, tmp_path_factory):
    """A server whose issuer has this path, and its issuer."""
    address = f"127.0.0.1:{free_port()}"
    name = f"http://{address}{request.param}"
    server = RunningServer(tmp_path_factory.mktemp("issuer") / "data", "--issuer", name, listen=address)
    yield server, name
    assert server.stop() == 0


def below_host(url):
    return "/" + url.split("/", 3)[3]


# RFC 8414 §3.1 puts the well-known part before the issuer's path, OpenID Connect Discovery behind it; clients
# ask for either document in either place.
WELL_KNOWN = {
    "RFC 8414": lambda issuer: get_well_known_url(issuer, external=True),
    "OpenID Connect": lambda issuer: get_openid_well_known_url(issuer, external=True),
    "RFC 8414, appended": lambda issuer: f"{issuer}/.well-known/oauth-authorization-server",
}


@pytest.mark.parametrize("well_known", WELL_KNOWN.values(), ids=WELL_KNOWN)
def test_a_client_that_knows_the_issuer_gets_a_token_that_verifies(well_known, issuer, a_name):
    server, name = issuer
    metadata = AuthorizationServerMetadata(requests.get(well_known(name)).json())
    assert metadata["issuer"] == name
    assert all(metadata[endpoint].startswith(name + "/") for endpoint in ("token_endpoint", "jwks_uri"))

    made = Administrator(server).register(a_name("clients.test/discovery"))
    for method in metadata["token_endpoint_auth_methods_supported"]:
        session = OAuth2Session(made["client_id"], made["client_secret"], token_endpoint_auth_method=method)
        token = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")["access_token"]
        key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key, algorithms=["ES256"], audience=name, issuer=name)
        assert claims["iss"] == name


def test_the_metadata_holds_what_rfc_8414_requires(issuer):
    _, name = issuer
    metadata = AuthorizationServerMetadata(requests.get(WELL_KNOWN["RFC 8414"](name)).json())
    # Authlib's check of the whole document asks for https, and for at least one response type, which means an
    # authorization endpoint; these are its checks of the rest.
    for check in (
        "validate_token_endpoint_auth_methods_supported",
        "validate_grant_types_supported",
        "validate_service_documentation",
    ):
        getattr(metadata, check)()
    assert metadata["grant_types_supported"] == ["client_credentials"]
    assert metadata["response_types_supported"] == []


def test_the_metadata_names_nothing_that_does_not_work(issuer):
    _, name = issuer
    for well_known in WELL_KNOWN.values():
        metadata = requests.get(well_known(name)).json()
        assert requests.post(metadata["token_endpoint"]).status_code == 400
        assert requests.get(metadata["jwks_uri"]).json()["keys"]
        assert requests.get(metadata["service_documentation"]).json()["servers"][0]["url"] == name


def test_the_keys_are_also_below_the_openid_document(issuer):
    _, name = issuer
    below = requests.get(f"{name}/.well-known/openid-configuration/jwks").json()
    assert below == requests.get(f"{name}/.well-known/jwks.json").json()
