"""An API that checks Grantlog's access tokens itself, and reports its calls. With Flask and PyJWT.

    pip install -r requirements.txt
    GRANTLOG_ISSUER=http://127.0.0.1:8080 API_AUDIENCE=https://orders.example \\
    GRANTLOG_CLIENT_ID=orders-api GRANTLOG_CLIENT_SECRET=gls_… python protected_api.py

The credentials are this API's own: an application with the scope `calls:report` and no other. A token is checked
without asking anybody, so a revocation is felt when the token is over: where that is too late, ask Grantlog about each
call instead (docs/forward-auth.md, docs/introspection.md).
"""

import functools
import os
import signal
import sys
import uuid
from datetime import datetime, timezone
from urllib.parse import quote

import flask
from access_tokens import Keys, Refused, may, verify
from call_reports import CallReports
from werkzeug.serving import make_server

# Characters of a path and of a User-Agent that a report carries.
MAX_REPORTED_CHARACTERS = 256

ISSUER = os.environ["GRANTLOG_ISSUER"]
AUDIENCE = os.environ["API_AUDIENCE"]

app = flask.Flask(__name__)
keys = Keys(ISSUER)
reports = CallReports(ISSUER, os.environ["GRANTLOG_CLIENT_ID"], os.environ["GRANTLOG_CLIENT_SECRET"])


def needs(scope="", org_parameter=None):
    """Lets a call in that carries a token with this scope, bound to the organisation in the path where there is one,
    and reports it either way."""

    def guard(view):
        @functools.wraps(view)
        def guarded(**parameters):
            # A place first: a call that cannot be reported does not happen.
            if not reports.take_place():
                return flask.Response(status=503, headers={"Retry-After": "1"})
            call = described(scope)
            try:
                claims = verify(bearer_token(), ISSUER, AUDIENCE, keys)
                call |= {"jti": claims["jti"], "client_id": claims["client_id"]}
                may(claims, scope, parameters.get(org_parameter))
                call["outcome"] = "authorized"
                flask.g.claims = claims
            except Refused as refused:
                call |= {"outcome": "denied", "error": refused.error, "reason": refused.reason}
                answer = flask.jsonify(error=refused.error)
                answer.status_code = refused.status
                # RFC 6750 §3: the scheme is followed by a parameter at least.
                challenge = [f'Bearer realm="{AUDIENCE}"', refused.challenge]
                answer.headers["WWW-Authenticate"] = ", ".join(filter(None, challenge))
                answer.headers["Cache-Control"] = "no-store"
            else:
                try:
                    answer = flask.make_response(view(**parameters))
                except Exception:
                    # What was let in is reported, whatever becomes of it.
                    reports.report(call | {"status": 500})
                    raise
            reports.report(call | {"status": answer.status_code})
            return answer

        return guarded

    return guard


def bearer_token():
    """RFC 6750 §2.1. The other two ways put the token where logs see it."""
    # WSGI joins headers of one name by commas, and no token has a comma.
    scheme, _, token = flask.request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        # RFC 6750 §3.1: whoever presents no token is told nothing but that one is needed.
        raise Refused(401, "missing_token", "missing_token")
    if "," in token:
        challenge = 'error="invalid_request", error_description="one token is needed, not several"'
        raise Refused(400, "invalid_request", "several_tokens", challenge)
    return token.strip()


def described(scope):
    request = flask.request
    call = {
        "id": str(uuid.uuid4()),
        "time": datetime.now(timezone.utc).isoformat(),
        "audience": AUDIENCE,
        "method": request.method,
        # Without the query: secrets belong in no URL and are there all the same.
        "path": quote(request.path)[:MAX_REPORTED_CHARACTERS],
        "required_scope": scope,
    }
    # Of a caller that has gone by now there may be no address.
    if request.remote_addr:
        call["source"] = {"ip": request.remote_addr}
        if user_agent := request.headers.get("User-Agent"):
            call["source"]["user_agent"] = user_agent[:MAX_REPORTED_CHARACTERS]
    return call


@app.get("/orders")
@needs("read")
def list_orders():
    return {"orders": [7, 8], "for": flask.g.claims["client_id"]}


@app.post("/orders")
@needs("update")
def place_order():
    return {"order": 9}, 201


@app.get("/orgs/<org>/orders")
@needs("read", org_parameter="org")
def orders_of_organisation(org):
    """Only tokens that are bound to the organisation of the path see its orders."""
    return {"org": org, "orders": [7]}


@app.get("/token")
@needs()
def inspect():
    """Any token for this API will do: what does it say?"""
    return flask.g.claims


def main():
    host, _, port = os.environ.get("LISTEN", "127.0.0.1:0").rpartition(":")
    server = make_server(host, int(port), app, threaded=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(f"listening on http://{host}:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    finally:
        reports.end()


if __name__ == "__main__":
    main()
