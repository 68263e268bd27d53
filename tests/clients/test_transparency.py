"""An outsider's tools agree: Go's sumdb (note and tlog), pymerkle and cryptography verify a running server."""

import base64
import hashlib
import os
import shutil
import subprocess

import pytest
import requests
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pymerkle import InmemoryTree
from running_server import BINARY, ROOT, Administrator, RunningServer

GO_PACKAGES = "/usr/share/gocode"
# More than a full tile, and not a whole number of them.
TOKENS = 300


class Log:
    """A server with some events, a checkpoint of before they happened, and what an outsider holds of it."""

    def __init__(self, server):
        self.server = server
        self.administrator = Administrator(server)
        self.key = subprocess.run(
            [BINARY, "audit", "verifier-key", "--data-dir", server.data_dir],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        self.old = self.get("/checkpoint").text
        made = self.administrator.register("clients.test/transparency")
        for _ in range(TOKENS):
            requests.post(
                f"{server.url}/connect/token",
                data={"grant_type": "client_credentials"},
                auth=(made["client_id"], made["client_secret"]),
            ).raise_for_status()
        # A proof of the last event publishes a checkpoint that reaches it.
        self.index = TOKENS
        self.proof = self.read(f"/audit/events/{self.index}/proof").text
        self.checkpoint = self.get("/checkpoint").text
        self.size = int(self.checkpoint.split("\n")[1])
        self.root = base64.b64decode(self.checkpoint.split("\n")[2])
        self.events = self.entries()

    def get(self, path):
        answer = requests.get(f"{self.server.url}{path}")
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer

    def read(self, path):
        answer = self.administrator.session.get(f"{self.server.url}{path}")
        assert answer.status_code == 200, f"{path}: {answer.text}"
        return answer

    def entries(self):
        events = []
        for number in range((self.size + 255) // 256):
            width = min(256, self.size - number * 256)
            path = f"/tile/entries/{number:03}" + ("" if width == 256 else f".p/{width}")
            bundle = self.read(path).content
            while bundle:
                length = int.from_bytes(bundle[:2], "big")
                events.append(bundle[2 : 2 + length])
                bundle = bundle[2 + length :]
        assert len(events) == self.size
        return events


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    running = RunningServer(tmp_path_factory.mktemp("transparency") / "data")
    yield Log(running)
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def go(tmp_path_factory):
    """The program of tests/transparency."""
    if not shutil.which("go") or not os.path.isdir(f"{GO_PACKAGES}/src/golang.org/x/mod/sumdb"):
        pytest.fail("Go or golang.org/x/mod is missing. On Debian: apt-get install golang-go golang-golang-x-mod-dev")
    program = tmp_path_factory.mktemp("go") / "verify"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": GO_PACKAGES, "GOFLAGS": ""}
    built = subprocess.run(
        ["go", "build", "-o", program, ROOT / "tests" / "transparency" / "main.go"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return program


def run(go, log, tmp_path, old=None, proof=None, event=None):
    files = {"old": old or log.old, "proof": proof or log.proof}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "event").write_bytes(event or log.events[log.index])
    arguments = [go, log.server.url, log.key, tmp_path / "old", tmp_path / "proof", tmp_path / "event"]
    return subprocess.run(arguments, capture_output=True, text=True)


def test_go_verifies_checkpoints_inclusion_and_consistency(go, log, tmp_path):
    ran = run(go, log, tmp_path)
    assert ran.returncode == 0, ran.stderr
    old_size = log.old.split("\n")[1]
    assert f"consistent with tree {old_size}, event {log.index} proven" in ran.stdout


def test_go_takes_no_checkpoint_proof_or_event_that_was_changed(go, log, tmp_path):
    size = log.old.split("\n")[1]
    forged = log.old.replace(f"\n{size}\n", f"\n{int(size) - 1}\n")
    assert run(go, log, tmp_path, old=forged).returncode != 0
    lines = log.proof.split("\n")
    lines[2], lines[3] = lines[3], lines[2]
    assert run(go, log, tmp_path, proof="\n".join(lines)).returncode != 0
    assert run(go, log, tmp_path, event=log.events[log.index] + b" ").returncode != 0


def test_pymerkle_makes_the_same_root_of_the_events(log):
    tree = InmemoryTree(algorithm="sha256")
    for event in log.events:
        tree.append_entry(event)
    assert tree.get_root() == log.root


def test_the_tiles_are_the_hashes_of_the_events(log):
    tile = log.get("/tile/0/000").content
    hashes = [hashlib.sha256(b"\0" + event).digest() for event in log.events[:256]]
    assert tile == b"".join(hashes)


def test_the_signature_is_ed25519_over_the_text(log):
    name, key_id, encoded = log.key.split("+", 2)
    public_key = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:])
    text, signature = log.checkpoint.split("\n\n")
    signature = base64.b64decode(signature.removesuffix("\n").split(" ")[2])
    assert signature[:4].hex() == key_id
    assert text.split("\n")[0] == name
    public_key.verify(signature[4:], f"{text}\n".encode())
    with pytest.raises(InvalidSignature):
        public_key.verify(signature[4:], f"{text}\n\n".encode())
