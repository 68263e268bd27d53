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
