"""Webhooks, received by the Standard Webhooks library and the CloudEvents SDK over TLS with client certificates."""

import base64
import datetime
import http.server
import ipaddress
import json
import ssl
import threading
import time

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from running_server import Administrator, RunningServer
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

NEW = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OLD = "whsec_" + base64.b64encode(bytes(range(100, 132))).decode()
PATIENCE_SECONDS = 60


class Receiver:
    """Takes what is sent to it over TLS from clients with the certificate, verified by others' libraries."""

    def __init__(self, folder, certificate, key, secret):
        self.webhook = Webhook(secret)
        self.accepted, self.errors = [], []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = 204
                try:
                    receiver.take(headers, body)
                except Exception as error:  # whatever a library says: the test shows it
                    receiver.errors.append(error)
                    status = 400
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        tls.load_verify_locations(certificate)
        tls.verify_mode = ssl.CERT_REQUIRED
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}/hooks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, headers, body):
        verified = self.webhook.verify(body, headers)
        if headers["content-type"] == "application/cloudevents-batch+json":
            events = [
                from_http(HTTPMessage({"content-type": "application/cloudevents+json"}, json.dumps(one).encode()), JSONFormat())
                for one in verified
            ]
        else:
            events = [from_http(HTTPMessage(headers, body), JSONFormat())]
        self.accepted.append((headers, body, events))

    @property
    def events(self):
        return [event for _, _, events in self.accepted for event in events]

    def wait_for(self, events):
        until = time.monotonic() + PATIENCE_SECONDS
        while len(self.events) < events:
            assert not self.errors, self.errors
            assert time.monotonic() < until, f"{len(self.events)} of {events} events have arrived"
            time.sleep(0.05)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def certificate(tmp_path):
    """A certificate for the loopback address that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files


@pytest.fixture
def forwarding(tmp_path, certificate):
    """Starts a receiver that knows one secret, and a server that signs with those in its file."""
    started = []

    def start(secrets, known, more=""):
        receiver = Receiver(tmp_path, *certificate, known)
        (tmp_path / "secret").write_text(secrets)
        config = tmp_path / "grantlog.toml"
        config.write_text(
            f"""
            [[forwarding]]
            name = "siem"
            kind = "webhook"
            url = "{receiver.url}"
            secret_file = "{tmp_path / "secret"}"
            ca_file = "{certificate[0]}"
            client_certificate_file = "{certificate[0]}"
            client_key_file = "{certificate[1]}"
            from = "beginning"
            retry_max_seconds = 1
            {more}
            """
        )
        server = RunningServer(tmp_path / "data", "--config", str(config))
        started.extend([receiver.close, server.stop])
        return server, receiver

    yield start
    for stop in reversed(started):
        stop()


@pytest.mark.parametrize("more", ["", "batch_events = 20"], ids=["one_by_one", "in_batches"])
def test_every_delivery_is_verified_and_every_event_is_a_cloud_event(forwarding, more):
    server, receiver = forwarding(NEW, NEW, more)
    Administrator(server).register("orders/worker")
    receiver.wait_for(5)
    for index, event in enumerate(receiver.events):
        data = event.get_data()
        assert data["index"] == index, "in the log's order, each once"
        assert event.get_specversion() == "1.0"
        assert event.get_id() == data["id"]
        assert event.get_source() == server.url
        assert event.get_type() == f"grantlog.{data['type']}"
        assert event.get_subject() == data["client_id"]
        assert event.get_time() == datetime.datetime.fromisoformat(data["time"])
        assert event.get_datacontenttype() == "application/json"
        assert event.get_extension("sequence") == f"{index:020}"
    ids = [headers["webhook-id"] for headers, _, _ in receiver.accepted]
    assert len(set(ids)) == len(ids), "each message has an id of its own"


def test_a_changed_body_or_time_is_noticed(forwarding):
    _, receiver = forwarding(NEW, NEW)
    receiver.wait_for(1)
    headers, body, _ = receiver.accepted[0]
    with pytest.raises(WebhookVerificationError):
        receiver.webhook.verify(body.replace(b"ApplicationRegistered", b"ApplicationDeleted") + b" ", headers)
    later = {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}
    with pytest.raises(WebhookVerificationError):
        receiver.webhook.verify(body, later)


@pytest.mark.parametrize("known", [NEW, OLD], ids=["new", "old"])
def test_while_the_secret_changes_a_receiver_may_know_either(forwarding, known):
    _, receiver = forwarding(f"{NEW}\n{OLD}\n", known)
    receiver.wait_for(1)
