"""Whether a token is one of the issuer's, for this API, and of this time: RFC 9068 §4 and RFC 8725, with PyJWT."""

import threading
import time

import jwt
import requests

# How far the issuer's clock and this one may be apart.
LEEWAY_SECONDS = 30
# Longer tokens are not looked at.
MAX_TOKEN_BYTES = 16 * 1024
# Never HS256, whatever a JWKS says: its key would be a public one.
ALGORITHMS = {"ES256", "RS256", "PS256", "EdDSA"}
# Whoever makes up key ids must not make this API ask for keys all the time.
FETCH_KEYS_AT_MOST_EVERY_SECONDS = 10
# A key that is retired early is gone from here after this time.
FETCH_KEYS_AT_LEAST_EVERY_SECONDS = 300
PATIENCE_SECONDS = 10


class Refused(Exception):
    """Why a call is not let in. `reason` is a word of Grantlog's log, `challenge` what is told besides the realm."""

    def __init__(self, status, error, reason, challenge=None):
        super().__init__(reason)
        self.status, self.error, self.reason, self.challenge = status, error, reason, challenge

    @classmethod
    def invalid_token(cls, reason, description):
        challenge = f'error="invalid_token", error_description="{description}"'
        return cls(401, "invalid_token", reason, challenge)


class Keys:
    """The issuer's keys, fetched when one is asked for that is not known yet."""

    def __init__(self, issuer):
        self.url = f"{issuer}/.well-known/jwks.json"
        self.known = {}
        self.fetched = None
        self.lock = threading.Lock()

    def get(self, kid):
        with self.lock:
            wait = FETCH_KEYS_AT_LEAST_EVERY_SECONDS if kid in self.known else FETCH_KEYS_AT_MOST_EVERY_SECONDS
            if self.fetched is None or time.monotonic() - self.fetched >= wait:
                try:
                    self.known = self._fetch()
                except (requests.RequestException, jwt.PyJWTError) as error:
                    print(f"the keys of {self.url} cannot be had: {error}", flush=True)
                self.fetched = time.monotonic()
            return self.known.get(kid)

    def _fetch(self):
        answer = requests.get(self.url, timeout=PATIENCE_SECONDS)
        answer.raise_for_status()
        published = jwt.PyJWKSet.from_dict(answer.json()).keys
        return {key.key_id: key for key in published if key.algorithm_name in ALGORITHMS}


def verify(token, issuer, audience, keys):
    """What the token says. Nothing of its claims is looked at before its signature is good."""
    malformed = Refused.invalid_token("malformed_token", "it is not a token of this issuer")
    if len(token) > MAX_TOKEN_BYTES:
        raise malformed
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        raise malformed from None
    # Exactly what Grantlog writes: whatever else a header may say is about keys from elsewhere (`jwk`, `jku`, `x5u`),
    # or must be understood (`crit`), and no reason to go on.
    if set(header) != {"alg", "kid", "typ"} or header["typ"] not in ("at+jwt", "application/at+jwt"):
        raise malformed
    key = keys.get(header["kid"])
    # RFC 8725 §3.1: the key decides the algorithm, the token can only repeat it.
    if key is None or key.algorithm_name != header["alg"]:
        raise Refused.invalid_token("unknown_key", "its key is not known")
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_SECONDS,
            options={"require": ["iss", "aud", "sub", "client_id", "exp", "nbf", "iat", "jti"]},
        )
    except jwt.ExpiredSignatureError:
        raise Refused.invalid_token("token_expired", "it has expired") from None
    except jwt.ImmatureSignatureError:
        raise Refused.invalid_token("token_not_yet_valid", "it is not valid yet") from None
    except jwt.InvalidIssuerError:
        raise Refused.invalid_token("wrong_issuer", "it is of another issuer") from None
    except jwt.InvalidAudienceError:
        raise Refused.invalid_token("wrong_audience", "it is for another audience") from None
    except jwt.InvalidSignatureError:
        raise Refused.invalid_token("bad_signature", "its signature is wrong") from None
    except jwt.PyJWTError:
        raise malformed from None
    return claims


def may(claims, scope, org_code=None):
    """Whether the token opens this; `Refused` if not."""
    if not set(scope.split()) <= set(claims.get("scope", "").split()):
        challenge = f'error="insufficient_scope", scope="{scope}"'
        raise Refused(403, "insufficient_scope", "insufficient_scope", challenge)
    if org_code is not None and claims.get("org_code") != org_code:
        description = "the token is not bound to this organisation"
        challenge = f'error="insufficient_scope", error_description="{description}"'
        raise Refused(403, "insufficient_scope", "org_mismatch", challenge)
