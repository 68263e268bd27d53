"""What an API does with a token: PyJWT, joserfc and Authlib verify it through the JWKS."""

import time

import jwt
import pytest
import requests
from authlib.oauth2.rfc6750.errors import InsufficientScopeError, InvalidTokenError
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc import errors as jose_errors
from joserfc import jwt as jose_jwt
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

ALGORITHMS = ["ES256", "RS256", "PS256", "EdDSA"]
# Claims that RFC 9068 §2.2 requires, and Grantlog's own.
EVERY_CLAIM = {"iss", "sub", "aud", "client_id", "azp", "gty", "scope", "scp", "iat", "nbf", "exp", "jti"}


@pytest.fixture(scope="module", params=ALGORITHMS)
def issued(request, administrator, server):
    """A token for an API of its own that chooses the algorithm: audience, algorithm, application, token."""
    algorithm = request.param
    audience = f"https://{algorithm.lower()}.example"
    administrator.register_api(audience, signing_alg=algorithm)
    made = administrator.register(
        f"clients.test/{algorithm}",
        audiences=[audience],
        org_code="ACME",
        properties={"region": "eu"},
    )
    return audience, algorithm, made, request_token(server, made)


def request_token(server, made, **parameters):
    answer = requests.post(
        f"{server.url}/connect/token",
        data={"grant_type": "client_credentials", **parameters},
        auth=(made["client_id"], made["client_secret"]),
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["access_token"]


def jwks(server):
    return requests.get(f"{server.url}/.well-known/jwks.json").json()


def test_pyjwt_verifies_through_the_jwks(issued, server):
    audience, algorithm, made, token = issued
    key = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json").get_signing_key_from_jwt(token)
    verified = jwt.decode_complete(
        token,
        key,
        algorithms=[algorithm],
        audience=audience,
        issuer=server.url,
        options={"require": ["exp", "iat", "nbf", "iss", "aud", "sub", "jti"]},
    )
    assert verified["header"] == {"alg": algorithm, "kid": key.key_id, "typ": "at+jwt"}
    claims = verified["payload"]
    assert set(claims) == EVERY_CLAIM | {"client_system_user", "org_code", "application_properties"}
    assert claims["sub"] == claims["client_id"] == claims["azp"] == made["client_id"]
    assert claims["aud"] == [audience]
    assert claims["scope"] == "read update DomainApi"
    assert claims["scp"] == ["read", "update", "DomainApi"]
    assert claims["gty"] == ["client_credentials"]
    assert claims["client_system_user"] == "svc.integration"
    assert claims["org_code"] == "ACME"
    assert claims["application_properties"] == {"region": {"v": "eu"}}
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["nbf"] == claims["iat"] <= time.time()


def test_pyjwt_refuses_a_token_with_another_signature(issued, server):
    audience, algorithm, _, token = issued
    key = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json").get_signing_key_from_jwt(token)
    head, claims, signature = token.split(".")
    other = ("A" if signature[0] != "A" else "B") + signature[1:]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{head}.{claims}.{other}", key, algorithms=[algorithm], audience=audience)
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(token, key, algorithms=[algorithm], audience="https://another.example")


def test_joserfc_verifies_through_the_jwks(issued, server):
    audience, algorithm, made, token = issued
    keys = KeySet.import_key_set(jwks(server))
    verified = jose_jwt.decode(token, keys, algorithms=[algorithm])
    assert verified.header["typ"] == "at+jwt"
    jose_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": server.url},
        aud={"essential": True, "value": audience},
        sub={"essential": True, "value": made["client_id"]},
        exp={"essential": True},
        jti={"essential": True},
    ).validate(verified.claims)
    with pytest.raises(jose_errors.JoseError):
        jose_jwt.decode(token[:-8] + "AAAAAAAA", keys, algorithms=[algorithm])


class ResourceServer(JWTBearerTokenValidator):
    """Authlib's RFC 9068 §4 validation, as its documentation shows it."""

    def __init__(self, server, audience):
        super().__init__(issuer=server.url, resource_server=audience)
        self.server = server

    def get_jwks(self):
        return jwks(self.server)


# Authlib's resource server takes what joserfc takes without being told so, and has no way to tell it: an API
# that uses it chooses ES256 or RS256.
BY_DEFAULT = JWSRegistry.recommended


def test_authlib_validates_a_token_by_rfc_9068(issued, server):
    audience, algorithm, made, token = issued
    resource_server = ResourceServer(server, audience)
    if algorithm not in BY_DEFAULT:
        with pytest.raises(InvalidTokenError):
            resource_server.authenticate_token(token)
        return
    claims = resource_server.authenticate_token(token)
    resource_server.validate_token(claims, ["read", "update"], None)
    assert claims["client_id"] == made["client_id"]
    with pytest.raises(InsufficientScopeError):
        resource_server.validate_token(claims, ["delete"], None)


def test_authlib_refuses_a_token_for_another_audience(issued, server):
    _, _, _, token = issued
    elsewhere = ResourceServer(server, "https://another.example")
    with pytest.raises(InvalidTokenError):
        elsewhere.validate_token(elsewhere.authenticate_token(token), [], None)


def test_every_key_of_the_jwks_says_what_it_is_for(issued, server):
    keys = jwks(server)["keys"]
    assert len({key["kid"] for key in keys}) == len(keys)
    for key in keys:
        assert key["use"] == "sig"
        assert key["alg"] in ALGORITHMS
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key), "a private part of a key is published"


def test_an_api_may_choose_the_typ_jwt(administrator, server):
    audience = "https://typ-jwt.example"
    administrator.register_api(audience, token_type="JWT")
    made = administrator.register("clients.test/typ-jwt", audiences=[audience])
    assert jwt.get_unverified_header(request_token(server, made))["typ"] == "JWT"


def test_a_token_of_a_key_that_was_rotated_out_still_verifies(administrator, server):
    audience = "https://rotated.example"
    administrator.register_api(audience)
    made = administrator.register("clients.test/rotated", audiences=[audience])
    before = request_token(server, made)
    administrator.post("/admin/signing-keys/rotate", {"alg": "ES256", "reason": "test"})
    after = request_token(server, made)
    kids = [jwt.get_unverified_header(token)["kid"] for token in (before, after)]
    assert kids[0] != kids[1]
    client = jwt.PyJWKClient(f"{server.url}/.well-known/jwks.json")
    for token in (before, after):
        key = client.get_signing_key_from_jwt(token)
        jwt.decode(token, key, algorithms=["ES256"], audience=audience, issuer=server.url)


def test_two_tokens_of_one_second_differ(server, application):
    assert request_token(server, application) != request_token(server, application)
