"""Starts and stops the servers that are measured, and knows the machine that they are measured on."""

import base64
import hashlib
import http.client
import json
import os
import pathlib
import platform
import shutil
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
BINARIES = REPOSITORY / "target" / "release"
RESULTS = REPOSITORY / "target" / "bench"
ISSUER = "http://grantlog.bench"
SECRET = "gls_bench-secret-of-every-application-0123456789"
SECRET_HASH = base64.b64encode(hashlib.sha256(SECRET.encode()).digest()).decode()
SCOPE = "read update DomainApi"
PATIENCE_SECONDS = 120
# Everything runs on these, whatever the machine has: servers and load generators share them.
CORES = sorted(os.sched_getaffinity(0))[:2]


def build():
    """Builds the product and the bench as they are released."""
    say("building (release) …")
    subprocess.run(
        ["cargo", "build", "--release", "--quiet", "--package", "grantlog", "--package", "bench"]
        + ["--package", "grantlog-kurrentdb-double"],
        cwd=REPOSITORY,
        check=True,
    )


def require(program, package):
    if shutil.which(program) is None:
        sys.exit(f"{program} is needed: apt-get install {package}")


def say(text):
    print(text, file=sys.stderr, flush=True)


def on_the_cores():
    os.sched_setaffinity(0, CORES)


def run(binary, *arguments):
    """Runs one of the bench's own programs and answers with the JSON that it prints."""
    done = subprocess.run(
        [BINARIES / binary, *map(str, arguments)], stdout=subprocess.PIPE, check=True, preexec_fn=on_the_cores
    )
    return json.loads(done.stdout)


class Server:
    """A server on a free port of the loopback interface, on the bench's cores."""

    def __init__(self, command, environment=None):
        self.started = time.monotonic()
        # A file, not a pipe: nobody reads along.
        self.stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env={**os.environ, **(environment or {})},
            preexec_fn=on_the_cores,
            text=True,
        )
        self.url = None
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
                break
        self.seconds_to_listening = time.monotonic() - self.started
        if self.url is None:
            self.process.wait()
            self.stderr.seek(0)
            sys.exit(f"{command[0]} ended before it listened:\n{self.stderr.read().decode()}")
        self.address = urllib.parse.urlsplit(self.url).netloc
        self.is_tls = self.url.startswith("https:")

    def stop(self, with_signal=signal.SIGTERM):
        self.process.send_signal(with_signal)
        code = self.process.wait(PATIENCE_SECONDS)
        if with_signal == signal.SIGTERM and code not in (0, -signal.SIGTERM):
            self.stderr.seek(0)
            sys.exit(f"{self.process.args[0]} ended with {code}:\n{self.stderr.read().decode()}")

    def connection(self):
        if self.is_tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return http.client.HTTPSConnection(self.address, timeout=PATIENCE_SECONDS, context=context)
        return http.client.HTTPConnection(self.address, timeout=PATIENCE_SECONDS)

    def memory_mb(self, of="VmRSS"):
        """What the process holds in memory now (VmRSS), or has held at the most (VmHWM)."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(of + ":"):
                return int(line.split()[1]) * 1024 / 1e6
        sys.exit(f"/proc/{self.process.pid}/status has no {of}")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bare(Server):
    """The baseline."""

    def __init__(self, environment=None):
        super().__init__([BINARIES / "bare", "--issuer", ISSUER], environment)

    def settle(self):
        """There is nothing that it has left undone."""
        return 0


class Grantlog(Server):
    """The product, over a data folder."""

    def __init__(self, data_dir, environment=None, config=None):
        self.data_dir = pathlib.Path(data_dir)
        command = [BINARIES / "grantlog", "serve", "--listen", "127.0.0.1:0", "--issuer", ISSUER, "--data-dir", data_dir]
        command += ["--config", config] if config else []
        super().__init__(command, environment)
        readiness = self.readiness()
        while not readiness["ready"]:
            time.sleep(0.001)
            readiness = self.readiness()
        self.seconds_to_ready = time.monotonic() - self.started

    def request(self, method, path, body=None, token=None, connection=None):
        """The decoded answer of a request that has to succeed."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if isinstance(body, dict):
            headers["Content-Type"], body = "application/json", json.dumps(body)
        elif body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = connection or self.connection()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status not in (200, 201, 503 if path == "/health/ready" else 200):
            sys.exit(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text)

    def readiness(self):
        return self.request("GET", "/health/ready")

    def settle(self):
        """Waits until the audit index has read everything; answers how many events it was behind."""
        readiness = self.readiness()
        behind = readiness["log_size"] - readiness["indexed_through"]
        while readiness["indexed_through"] < readiness["log_size"]:
            time.sleep(0.01)
            readiness = self.readiness()
        return behind

    def administrator(self):
        """A token for everything."""
        profile = json.loads((self.data_dir / "admin.json").read_text())
        body = urllib.parse.urlencode(
            {
                "grant_type": "client_credentials",
                "client_id": profile["client_id"],
                "client_secret": profile["client_secret"],
            }
        )
        return self.request("POST", "/connect/token", body)["access_token"]

    def register(self, count, first=0):
        """Registers bench/<first> and those that follow."""
        return run(
            "register_applications",
            *("--url", self.url, "--token", self.administrator()),
            *("--applications", count, "--from", first, "--secret-hash", SECRET_HASH),
        )


def form(client_id):
    """What a client posts."""
    return urllib.parse.urlencode(
        {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": SECRET,
            "scope": SCOPE,
        }
    )


def wrk(server, seconds, connections=64, applications=1, keep_alive=True):
    """Loads the token endpoint as fast as it answers; every answer has to be 200."""
    environment = {
        "BENCH_FORM": form("bench/%d"),
        "BENCH_APPLICATIONS": str(applications),
        "BENCH_CLOSE": "" if keep_alive else "yes",
    }
    return load(f"{server.url}/connect/token", "token_requests.lua", environment, seconds, connections)


def load(url, script, environment, seconds, connections):
    """Runs wrk with one of the bench's scripts and answers with what it reports; every answer has to be 200."""
    threads = min(2, connections)
    done = subprocess.run(
        ["wrk", "--threads", str(threads), "--connections", str(connections), "--duration", f"{seconds}s"]
        + ["--timeout", "10s", "--script", str(REPOSITORY / "bench" / script), url],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **environment},
        preexec_fn=on_the_cores,
    )
    report = json.loads(done.stdout.rpartition("report: ")[2])
    if report["errors"] or not report["requests"]:
        sys.exit(f"{report['errors']} of {report['requests']} requests failed:\n{done.stdout}")
    return report


def steady(server, rate, seconds, connections=64):
    """Loads the token endpoint at a rate, whatever it answers, and tells how long answers took."""
    return run(
        "steady_load",
        *("--address", server.address, "--body", form("bench/0")),
        *("--rate", rate, "--seconds", seconds, "--connections", connections),
    )


def certificate(folder):
    """A self-signed certificate, and the variables that make both servers speak TLS with it."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", certificate],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return {"GRANTLOG__TLS__CERTIFICATE_FILE": str(certificate), "GRANTLOG__TLS__KEY_FILE": str(key)}


class DataFolder:
    """A data folder on the disk that the repository is on, gone afterwards."""

    def __enter__(self):
        RESULTS.mkdir(parents=True, exist_ok=True)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="data-", dir=RESULTS))
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path)


def machine():
    """What the figures depend on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    return {
        "cpu": cpu,
        "cores": f"{len(CORES)} of {os.cpu_count()}, servers and load generator together",
        "memory": f"{memory_gb:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": file_system(RESULTS),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
    }


def file_system(path):
    best = ("", "unknown")
    for line in open("/proc/mounts"):
        _, mounted, kind, *_ = line.split()
        if str(path).startswith(mounted) and len(mounted) > len(best[0]):
            best = (mounted, kind)
    return best[1]


class Report:
    """Tables for people, goals for `--check`, and everything as JSON beside the build."""

    def __init__(self, name):
        self.name = name
        self.machine = machine()
        self.sections = []
        self.goals = []

    def section(self, title, header, rows):
        self.sections.append({"title": title, "header": header, "rows": rows})
        self.show(self.sections[-1])

    def goal(self, what, value, holds, bound):
        """`value` and `bound` are texts; `holds` says whether the goal is reached."""
        self.goals.append({"goal": what, "bound": bound, "measured": value, "holds": holds})

    def finish(self, check):
        """Prints the goals, writes the file, and ends the program: with 1 when a goal was to be checked and missed."""
        rows = [[g["goal"], g["bound"], g["measured"], "yes" if g["holds"] else "**NO**"] for g in self.goals]
        self.show({"title": "Goals", "header": ["goal", "bound", "measured", "reached"], "rows": rows})
        print("\n" + ", ".join(f"{fact}: {value}" for fact, value in self.machine.items()))
        RESULTS.mkdir(parents=True, exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        whole = {"machine": self.machine, "sections": self.sections, "goals": self.goals}
        path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
        say(f"written to {path.relative_to(REPOSITORY)}")
        sys.exit(1 if check and not all(goal["holds"] for goal in self.goals) else 0)

    @staticmethod
    def show(section):
        rows = [section["header"], *section["rows"]]
        rows = [[str(cell) for cell in row] for row in rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        print(f"\n### {section['title']}\n")
        for number, row in enumerate(rows):
            print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |")
            if number == 0:
                print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
        sys.stdout.flush()


def median(values):
    return statistics.median(values)


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(len(ordered) * percent / 100))]
