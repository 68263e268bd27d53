#!/usr/bin/env python3
"""A small API for behind the gateway: customers over OData, from the standard library alone.

    python3 examples/upstream.py [port, default 9000]

It checks no token: it listens on the loopback interface, where only the gateway reaches it, and believes what the
gateway says about the caller."""

import http.server
import json
import sys
import urllib.parse

CUSTOMERS = [{"Id": number, "Name": f"Customer {number}", "Country": "BG"} for number in range(1, 101)]
MAX_PAGE = 50
CUSTOMERS_PATH = "/api/domain/odata/Crm_Sales_Customers"


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Longer than the gateway keeps its connections.
    timeout = 30
    # Head and body leave together.
    wbufsize = -1

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path != CUSTOMERS_PATH:
            return self.answer(404, {"error": {"code": "NotFound", "message": f"There is no {url.path}"}})
        top = urllib.parse.parse_qs(url.query).get("$top", [str(MAX_PAGE)])[0]
        if not top.isdecimal():
            return self.answer(400, {"error": {"code": "BadRequest", "message": "$top is not a number"}})
        caller = {name: self.headers[name] for name in ("X-Client-Id", "X-System-User", "X-Scope") if self.headers[name]}
        self.answer(200, {"caller": caller, "value": CUSTOMERS[: min(int(top), MAX_PAGE)]})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Api) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
