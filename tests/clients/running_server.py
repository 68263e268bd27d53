"""The real binary on a port of its own over a data folder, stopped by the test that started it."""

import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("GRANTLOG_BIN", ROOT / "target" / "debug" / "grantlog"))
# A start, a stop and an answer take much less; a machine under load may need this.
PATIENCE_SECONDS = 60


class RunningServer:
    """A server that runs until it is stopped."""

    def __init__(self, data_dir, *flags, listen="127.0.0.1:0"):
        if not BINARY.exists():
            raise FileNotFoundError(f"{BINARY} is not there: build it with `cargo build`, or set GRANTLOG_BIN")
        self.data_dir = Path(data_dir)
        self.log = self.data_dir.with_suffix(".stderr")
        # No configuration of whoever runs the tests.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRANTLOG_")}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BINARY, "serve", "--listen", listen, "--data-dir", self.data_dir, *flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                # SIGXFSZ stays ignored, so that a file size limit is an error and not the end: see `fill_disk`.
                restore_signals=False,
            )
        self.url = self._wait_until_listening()

    def _wait_until_listening(self):
        lines = queue.Queue()

        def read():
            for line in self.process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        while (line := lines.get(timeout=PATIENCE_SECONDS)) is not None:
            if found := re.match(r"listening on (\S+)", line):
                return found[1]
        raise RuntimeError(f"the server ended with {self.process.wait()}:\n{self.log.read_text()}")

    @property
    def administrator(self):
        """client_id and client_secret of the administrator, from the profile in the data folder."""
        profile = json.loads((self.data_dir / "admin.json").read_text())
        return profile["client_id"], profile["client_secret"]

    def fill_disk(self):
        """From now on no file of the server can grow: every write is refused, as on a full disk."""
        import resource

        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (0, 0))

    def stop(self):
        """Asks it to stop and answers its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_SECONDS)


class Administrator:
    """Whoever registers applications at a running server."""

    def __init__(self, server):
        self.url = server.url
        self.session = requests.Session()
        answer = requests.post(
            f"{server.url}/connect/token",
            data={"grant_type": "client_credentials"},
            auth=server.administrator,
        )
        answer.raise_for_status()
        self.token = answer.json()["access_token"]
        self.session.headers["Authorization"] = f"Bearer {self.token}"

    def request(self, method, path, **arguments):
        answer = self.session.request(method, self.url + path, **arguments)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def get(self, path, **parameters):
        return self.request("GET", path, params=parameters)

    def post(self, path, body=None):
        return self.request("POST", path, json=body or {})

    def search(self, **parameters):
        """The events that a search finds when the index has all that the log held before."""
        wanted = self.get("/audit/events", limit=1)["log_size"]
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            page = self.get("/audit/events", **parameters)
            if page["indexed_through"] >= wanted:
                return page["events"]
            assert time.monotonic() < until, "the index does not catch up"
            time.sleep(0.1)

    def register(self, application_uri, **attributes):
        """An application with a system user and a scope, unless said otherwise; with its secret."""
        defaults = {"system_user": "svc.integration", "scope": "read update DomainApi"}
        return self.post("/admin/applications", {"application_uri": application_uri, **defaults, **attributes})

    def register_api(self, audience, **attributes):
        return self.post("/admin/apis", {"audience": audience, **attributes})


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
