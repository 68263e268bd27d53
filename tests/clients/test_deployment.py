"""What runs Grantlog in containers is in step with Grantlog and with itself. No container runs here: the files are
read, and where a program that reads them is at hand, it does."""

import contextlib
import fnmatch
import http.server
import importlib.util
import ipaddress
import itertools
import json
import os
import re
import subprocess
import threading
import time
import tomllib
from pathlib import Path

import jsonschema_rs
import pytest
import requests
import yaml
from running_server import BINARY, PATIENCE_SECONDS, ROOT, Administrator, RunningServer, free_port

NGINX = "/usr/sbin/nginx"
# Grantlog's user, and that of KurrentDB's image.
GRANTLOG_USER, KURRENTDB_USER = "65532:65532", "1000:1000"
NODES = ["grantlog-1", "grantlog-2"]
CLUSTER_NODES = ["grantlog-cluster-1", "grantlog-cluster-2"]
KURRENTDB_NODES = ["kurrentdb-1", "kurrentdb-2", "kurrentdb-3"]
KURRENTDB_PORT = 2113


def read(path):
    return (ROOT / path).read_text()


COMPOSE = yaml.safe_load(read("docker-compose.yml"))
SERVICES = COMPOSE["services"]
CONFIG = tomllib.loads(read("docker/grantlog.toml"))
NGINX_CONF = read("docker/nginx.conf")
COLLECTOR = yaml.safe_load(read("docker/otel-collector.yaml"))
PROMETHEUS = yaml.safe_load(read("docker/prometheus.yml"))
DATASOURCES = yaml.safe_load(read("docker/grafana/provisioning/datasources/datasources.yml"))["datasources"]
PROVIDERS = yaml.safe_load(read("docker/grafana/provisioning/dashboards/dashboards.yml"))["providers"]
DASHBOARD = json.loads(read("docker/grafana/dashboards/grantlog.json"))
# Lines that go on are one.
DOCKERFILE = read("Dockerfile").replace("\\\n", " ")


def instruction(name, stage=-1):
    """The arguments of an instruction of a stage, the last by default; each time that it is there."""
    text = re.split(r"(?m)^FROM ", DOCKERFILE)[1:][stage]
    return re.findall(rf"(?m)^{name}\s+(.*)$", text)


PORT = int(instruction("EXPOSE")[0])


def networks(service):
    return set(SERVICES[service]["networks"])


def address(service, network):
    return SERVICES[service]["networks"][network]["ipv4_address"]


def mounts(service):
    """Source, target and whether it can be written to."""
    for mount in SERVICES[service].get("volumes", []):
        source, target, *flags = mount.split(":")
        yield source, target, flags != ["ro"]


def environment(service):
    return SERVICES[service].get("environment", {})


# --- the Compose file


def test_the_compose_file_is_what_the_compose_specification_says():
    # Of this package the schema is used that it brings.
    package = Path(importlib.util.find_spec("check_jsonschema").origin).parent
    [schema] = package.glob("builtin_schemas/vendor/compose-spec.json")
    errors = jsonschema_rs.validator_for(json.loads(schema.read_text())).iter_errors(COMPOSE)
    assert [error.message for error in errors] == []


def test_every_network_and_volume_and_dependency_is_there_and_each_is_used():
    used_networks = {name for service in SERVICES for name in SERVICES[service].get("networks", [])}
    assert used_networks == set(COMPOSE["networks"])
    sources = {source for service in SERVICES for source, _, _ in mounts(service)}
    assert {source for source in sources if not source.startswith(".")} == set(COMPOSE["volumes"])
    for service, definition in SERVICES.items():
        for needed in definition.get("depends_on", {}):
            assert needed in SERVICES, service
            # What is started by default must not wait for what is not.
            assert "profiles" in definition or "profiles" not in SERVICES[needed], (service, needed)


def brought_by(names):
    """The services that Compose starts when it is told these names."""
    started = set()
    while names:
        name = names.pop()
        started.add(name)
        names |= set(SERVICES[name].get("depends_on", {})) - started
    return started


def test_the_documented_commands_start_everything_that_is_sent_to_or_shown():
    by_default = {name for name, service in SERVICES.items() if "profiles" not in service}
    monitoring = {"otel-collector", "jaeger", "prometheus", "grafana"}
    named = {}
    for path in ("docker-compose.yml", "docs/deployment.md"):
        pattern = r"docker compose( --profile cluster)? up --build((?: --\w+)*)((?: [a-z][\w-]+)*)"
        for profile, _, names in re.findall(pattern, read(path)):
            named.setdefault(bool(profile), set()).add(names.strip())
    assert named[False] == {""} and brought_by(set(by_default)) == by_default
    for names in named[True]:
        started = brought_by(set(names.split()))
        of_cluster = {name for name, service in SERVICES.items() if service.get("profiles") == ["cluster"]}
        assert started == of_cluster | monitoring | {"master-key"}, names
    # Where something is sent, something must be there.
    exporters = [exporter or {} for exporter in COLLECTOR["exporters"].values()]
    endpoints = [CONFIG["telemetry"]["otlp_endpoint"], *(exporter.get("endpoint") for exporter in exporters)]
    receivers = {endpoint.rpartition("/")[2].partition(":")[0] for endpoint in endpoints if endpoint}
    assert receivers == {"otel-collector", "jaeger"}
    for node in NODES + CLUSTER_NODES:
        assert receivers <= brought_by({node}), node


def test_every_file_in_docker_is_mounted_or_copied_and_every_one_that_is_mounted_is_there():
    mounted = {ROOT / source for service in SERVICES for source, _, _ in mounts(service) if source.startswith(".")}
    assert all(path.exists() for path in mounted), mounted
    for path in (ROOT / "docker").rglob("*"):
        if path.is_file():
            is_copied = str(path.relative_to(ROOT)) in DOCKERFILE
            assert is_copied or mounted & {path, *path.parents}, path
    for service in SERVICES:
        for source, _, is_writable in mounts(service):
            assert not (source.startswith(".") and is_writable), (service, source)


def test_everything_is_published_on_the_loopback_interface_alone():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == len({port.split(":")[1] for port in ports}) >= 6, ports
    assert all(port.startswith("127.0.0.1:") for port in ports), ports
    assert not any("network_mode" in service and service["network_mode"] != "none" for service in SERVICES.values())


def test_every_image_has_a_version():
    for name, service in SERVICES.items():
        assert re.search(r":(local|v?\d+\.\d+\.\d+\S*)$", service["image"]), name
    for image in re.findall(r"(?m)^FROM (\S+)", DOCKERFILE):
        assert re.search(r"(:\d+\.\d+|:bookworm-slim|debian12:nonroot)", image), image


def test_no_password_is_in_the_file_and_none_has_a_default():
    for name in SERVICES:
        for variable, value in environment(name).items():
            if "PASSWORD" in variable or "SECRET" in variable:
                assert value == "${KURRENTDB_ADMIN_PASSWORD:-}", (name, variable)
    for host in re.findall(r"://([^@\s]+)@", read("docker-compose.yml")):
        assert host == "admin:${KURRENTDB_ADMIN_PASSWORD:-}"
    assert "changeit" not in read("docker-compose.yml")
    # Nobody can sign in to Grafana, so there is no password to know.
    grafana = environment("grafana")
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == grafana["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer" and grafana["GF_AUTH_BASIC_ENABLED"] == "false"


def test_what_runs_has_no_rights_that_it_does_not_need():
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        # KurrentDB unpacks libraries into its own file system.
        assert service.get("read_only", False) or name.startswith("kurrentdb"), name
        assert "privileged" not in service and "cap_add" not in service, name
    for node in NODES + CLUSTER_NODES:
        writable = [target for _, target, is_writable in mounts(node) if is_writable]
        assert writable == instruction("VOLUME"), node


# --- the image


def test_what_the_dockerfile_copies_is_there_and_nothing_else_gets_near_the_build():
    lets_through = [line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")]
    copied = []
    for stage in range(3):
        for arguments in instruction("COPY", stage):
            if "--from=" not in arguments:
                *sources, _ = [word for word in arguments.split() if not word.startswith("--")]
                copied += sources
    assert sorted(copied) == sorted(lets_through)
    assert all((ROOT / source).exists() for source in copied), copied
    assert read(".dockerignore").splitlines()[1] == "*"
    members = tomllib.loads(read("Cargo.toml"))["workspace"]["members"]
    assert {member for member in members if member != "."} <= set(copied), "Cargo needs every member of the workspace"
    # What the sources of the server bring in from elsewhere would be missing.
    for source in itertools.chain((ROOT / "src").rglob("*.rs"), (ROOT / "projections/src").rglob("*.rs")):
        if source.name != "tests.rs":
            for path in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', source.read_text()):
                assert (source.parent / path).resolve().is_relative_to(ROOT / "src"), (source, path)


def test_the_image_is_built_with_the_rust_that_the_workspace_wants_and_runs_without_root():
    rust = tomllib.loads(read("Cargo.toml"))["workspace"]["package"]["rust-version"]
    assert f"FROM rust:{rust}-" in DOCKERFILE
    assert instruction("USER") == [GRANTLOG_USER]
    # A volume is its user's from the start.
    assert any(f"--chown={GRANTLOG_USER} " in copy and copy.endswith(instruction("VOLUME")[0]) for copy in instruction("COPY"))
    assert instruction("WORKDIR") == instruction("VOLUME")
    assert SERVICES["master-key"]["user"] == GRANTLOG_USER
    assert SERVICES["cluster-keys"]["user"] == KURRENTDB_USER
    owners = dict(re.findall(r"install -d -o (\d+) -g \d+ -m \d+ (/\w+)", DOCKERFILE))
    assert owners == {"65532": "/keys", "1000": "/tls"}


def test_the_ports_are_one():
    [listen] = re.findall(r"GRANTLOG__SERVER__LISTEN=(\S+)", DOCKERFILE)
    assert listen == f"0.0.0.0:{PORT}"
    assert "listen" not in CONFIG["server"]
    assert set(re.findall(r"server grantlog-\d:(\d+)", NGINX_CONF)) == {str(PORT)}
    [grantlog] = [job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "grantlog"]
    assert [config["port"] for config in grantlog["dns_sd_configs"]] == [PORT]
    [listens] = re.findall(r"listen (\d+)", NGINX_CONF)
    for nginx, issuer in [("nginx", CONFIG["server"]["issuer"]), ("nginx-cluster", cluster_issuer())]:
        [port] = SERVICES[nginx]["ports"]
        published = issuer.removeprefix("http://")
        assert port == f"{published}:{listens}", nginx
        assert SERVICES[nginx]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{listens}/health/live"


def cluster_issuer():
    [issuer] = {environment(node)["GRANTLOG__SERVER__ISSUER"] for node in CLUSTER_NODES}
    return issuer


def test_the_health_check_tells_a_ready_server_from_none(server):
    [arguments] = instruction("HEALTHCHECK")
    command = json.loads(arguments[arguments.index("[") :])
    assert command == ["/usr/local/bin/grantlog", "health", "--url", f"http://127.0.0.1:{PORT}"]
    for node in NODES + CLUSTER_NODES:
        assert SERVICES[node]["healthcheck"]["test"] == ["CMD", *command]

    def ask(url):
        return subprocess.run([BINARY, *command[1:-1], url], capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    ready = ask(server.url)
    assert ready.returncode == 0 and ready.stdout.startswith("ready, "), ready
    nobody = ask(f"http://127.0.0.1:{free_port()}")
    assert nobody.returncode == 1 and "cannot reach" in nobody.stderr, nobody


# --- Grantlog's configuration


def clean_environment(**more):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GRANTLOG_")}
    return {**variables, **more}


@pytest.mark.parametrize("node", NODES + CLUSTER_NODES)
def test_the_nodes_configuration_is_one_that_grantlog_starts_with(node, tmp_path, monkeypatch):
    """All of it but for where this machine has other places."""
    assert "./docker/grantlog.toml:/etc/grantlog/grantlog.toml:ro" in SERVICES[node]["volumes"]
    assert SERVICES[node]["command"] == ["serve", "--config", "/etc/grantlog/grantlog.toml"]
    subprocess.run([ROOT / "docker/make-keys", "master", tmp_path], check=True)
    here = {
        "GRANTLOG__STORE__URL": "sqlite",
        "GRANTLOG__KEYS__MASTER_KEY_FILE": str(tmp_path / "master.key"),
        "GRANTLOG__TELEMETRY__OTLP_ENDPOINT": "",
    }
    started = start_with(monkeypatch, {**environment(node), **here}, tmp_path / "data")
    metadata = requests.get(f"{started.url}/.well-known/oauth-authorization-server").json()
    assert started.stop() == 0, started.log.read_text()
    assert metadata["issuer"] == environment(node).get("GRANTLOG__SERVER__ISSUER", CONFIG["server"]["issuer"])


def start_with(monkeypatch, variables, data_dir):
    """A server with this environment, which `RunningServer` would keep from it."""
    launch = subprocess.Popen
    with monkeypatch.context() as patch:
        patch.setattr(
            subprocess, "Popen", lambda command, env, **more: launch(command, env={**env, **variables}, **more)
        )
        return RunningServer(data_dir, "--config", ROOT / "docker/grantlog.toml")


@pytest.mark.parametrize("node", NODES + CLUSTER_NODES)
def test_the_nodes_store_is_one_that_grantlog_knows(node):
    url = environment(node).get("GRANTLOG__STORE__URL", CONFIG["store"]["url"])
    url = url.replace("${KURRENTDB_ADMIN_PASSWORD:-}", "0123456789abcdef")
    tried = subprocess.run(
        [BINARY, "migrate", "--from", "sqlite:/nowhere/events.db", "--to", url],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=PATIENCE_SECONDS,
    )
    # 2 is wrong usage: a text that names no store.
    assert tried.returncode == 1 and "there is no event log /nowhere/events.db" in tried.stderr, tried.stderr


def test_the_nodes_are_told_apart_and_share_what_they_must():
    for nodes in (NODES, CLUSTER_NODES):
        assert [environment(node)["GRANTLOG__NODE__NAME"] for node in nodes] == nodes
        roles = [json.loads(environment(node)["GRANTLOG__NODE__ROLES"]) for node in nodes]
        assert roles == [["token", "audit"], ["token"]], "nginx.conf sends the trail to the first"
        data = {source for node in nodes for source, target, _ in mounts(node) if target == "/var/lib/grantlog"}
        assert len(data) == len(nodes)
    key = CONFIG["keys"]["master_key_file"]
    for node in NODES + CLUSTER_NODES:
        assert ("master-key", str(Path(key).parent), False) in mounts(node), node
    assert list(mounts("master-key")) == [("master-key", "/keys", True)]
    assert SERVICES["master-key"]["command"] == ["master", "/keys"]


# --- nginx


def test_the_nodes_believe_nginx_and_nobody_else():
    proxies = [address("nginx", "single"), address("nginx-cluster", "cluster")]
    assert CONFIG["server"]["trusted_proxies"] == proxies
    for network in ("single", "cluster"):
        [config] = COMPOSE["networks"][network]["ipam"]["config"]
        subnet = ipaddress.ip_network(config["subnet"])
        fixed = [
            service["networks"][network]["ipv4_address"]
            for service in SERVICES.values()
            if isinstance(service.get("networks"), dict) and service["networks"].get(network)
        ]
        assert len(fixed) == len(set(fixed)) == 3 and all(ipaddress.ip_address(one) in subnet for one in fixed)


def test_nginx_finds_the_nodes_and_sends_the_trail_to_those_that_have_it():
    for nginx, network, nodes in [("nginx", "single", NODES), ("nginx-cluster", "cluster", CLUSTER_NODES)]:
        known = dict(entry.split(":") for entry in SERVICES[nginx]["extra_hosts"])
        # The configuration's names, whatever the nodes are called.
        assert known == {name: address(node, network) for name, node in zip(NODES, nodes)}, nginx
        for upstream, servers in re.findall(r"upstream (\w+) \{(.*?)\}", NGINX_CONF, re.DOTALL):
            names = re.findall(r"server ([\w-]+):", servers)
            of_role = {
                "grantlog_token": nodes,
                "grantlog_grants": nodes,
                "grantlog_administration": nodes,
                "grantlog_audit": [
                    node for node in nodes if "audit" in json.loads(environment(node)["GRANTLOG__NODE__ROLES"])
                ],
            }[upstream]
            assert [known[name] for name in names] == [address(node, network) for node in of_role], upstream


def test_nginx_sends_reported_calls_to_the_node_that_finds_their_tokens_at_once():
    [upstream] = re.findall(r"location = /audit/api-calls \{\s*proxy_pass http://(\w+);", NGINX_CONF)
    [servers] = re.findall(rf"upstream {upstream} \{{(.*?)\}}", NGINX_CONF, re.DOTALL)
    [first, *others] = re.findall(r"server ([\w-]+):(.*?);", servers)
    for of_role in (NODES, CLUSTER_NODES):
        node = dict(zip(NODES, of_role))[first[0]]
        assert "audit" in json.loads(environment(node)["GRANTLOG__NODE__ROLES"])
    assert others and all(line.endswith(" backup") for _, line in others)


def test_nginx_drops_idle_connections_before_the_nodes_do():
    kept = {int(seconds) for seconds in re.findall(r"keepalive_timeout (\d+)s", NGINX_CONF)}
    assert max(kept) < CONFIG["server"]["keep_alive_seconds"]
    grace = {SERVICES[node]["stop_grace_period"] for node in NODES + CLUSTER_NODES}
    assert all(int(seconds.rstrip("s")) > CONFIG["server"]["shutdown_timeout_seconds"] + 10 for seconds in grace)


def nginx_on_this_machine(folder, port, upstream):
    """nginx.conf with the nodes' names and the port put to those of this machine, and nothing else changed."""
    text = re.sub(rf"grantlog-\d:{PORT}", upstream, NGINX_CONF)
    text = re.sub(r"listen \d+", f"listen 127.0.0.1:{port}", text).replace("/tmp/", f"{folder}/")
    text = text.replace("/dev/stdout", f"{folder}/access.log").replace("/dev/stderr", f"{folder}/error.log")
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


@contextlib.contextmanager
def running_nginx(folder, upstream):
    port = free_port()
    conf = nginx_on_this_machine(folder, port, upstream)
    command = [NGINX, "-e", folder / "error.log", "-c", conf, "-g", "daemon off; master_process off;"]
    process = subprocess.Popen(command)
    try:
        url, begun = f"http://127.0.0.1:{port}", time.monotonic()
        while True:
            try:
                requests.get(f"{url}/health/live", timeout=PATIENCE_SECONDS)
                break
            except requests.ConnectionError:
                assert process.poll() is None and time.monotonic() - begun < PATIENCE_SECONDS
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_SECONDS)


def test_nginx_takes_the_configuration(tmp_path):
    conf = nginx_on_this_machine(tmp_path, free_port(), "127.0.0.1:9")
    tested = subprocess.run(
        [NGINX, "-t", "-e", tmp_path / "error.log", "-c", conf], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stderr


class NodeThatMayNotGrant(http.server.BaseHTTPRequestHandler):
    """What a node answers that is cut off from the log: 503 to grants, and to the rest what it always does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(503, {"Retry-After": "2"})

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_behind_nginx_nodes_that_may_not_grant_still_answer_for_themselves(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NodeThatMayNotGrant) as nodes:
        threading.Thread(target=nodes.serve_forever, daemon=True).start()
        with running_nginx(tmp_path, f"127.0.0.1:{nodes.server_port}") as url:
            for _ in range(20):
                refused = requests.post(f"{url}/connect/token", data={"grant_type": "client_credentials"})
                assert (refused.status_code, refused.headers.get("Retry-After")) == (503, "2")
                for path in ("/.well-known/jwks.json", "/health/live"):
                    assert requests.get(url + path).status_code == 200, path
        nodes.shutdown()


def test_behind_nginx_everything_works_and_nobody_can_say_who_they_are(tmp_path):
    config = tmp_path / "behind-nginx.toml"
    config.write_text('[server]\ntrusted_proxies = ["127.0.0.1"]\n')
    server = RunningServer(tmp_path / "data", "--config", config)
    try:
        with running_nginx(tmp_path, server.url.removeprefix("http://")) as url:
            server.url = url
            administrator = Administrator(server)
            made = administrator.register("behind.nginx/app")
            forged = {
                "X-Forwarded-For": "203.0.113.9",
                "Forwarded": "for=203.0.113.9",
                "X-Forwarded-Method": "GET",
                "X-Forwarded-Uri": "/forged",
            }
            for path in ("/connect/token", "/oauth2/token", "/token"):
                answer = requests.post(
                    url + path, data={"client_id": "behind.nginx/app", "client_secret": "wrong"}, headers=forged
                )
                assert answer.status_code in (400, 401), (path, answer.text)
            answer = requests.post(
                f"{url}/connect/token",
                data={"grant_type": "client_credentials"},
                auth=(made["client_id"], "wrong"),
                headers=forged,
            )
            assert answer.status_code == 401
            [event] = administrator.search(type="TokenRefused", limit=1)
            assert event["source"]["ip"] == "127.0.0.1"
            for path in ("/verify", "/verify/x", "/metrics"):
                assert requests.get(url + path, headers=forged).status_code == 404, path
            assert requests.get(f"{url}/checkpoint").status_code == 200
            assert requests.get(f"{url}/health/ready").json()["ready"] is True
            # A tail is not held back.
            tail = administrator.session.get(f"{url}/audit/tail", params={"from_index": 0}, stream=True, timeout=30)
            assert tail.status_code == 200
            assert next(line for line in tail.iter_lines() if line.startswith(b"data:"))
            tail.close()
    finally:
        assert server.stop() == 0
    access = (tmp_path / "access.log").read_text()
    assert all(json.loads(line)["status"] for line in access.splitlines())


# --- monitoring


def test_telemetry_has_its_way_from_the_nodes_to_jaeger():
    receives = COLLECTOR["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert CONFIG["telemetry"]["otlp_endpoint"] == f"http://otel-collector:{receives.split(':')[1]}"
    for node in NODES + CLUSTER_NODES:
        assert "telemetry" in networks(node) & networks("otel-collector") & networks("jaeger"), node
    host, port = COLLECTOR["exporters"]["otlp/jaeger"]["endpoint"].split(":")
    # 4317 is where OTLP over gRPC is expected; Jaeger listens to others than itself.
    assert (host in SERVICES, port) == (True, "4317")
    assert environment("jaeger")["JAEGER_LISTEN_HOST"] == "0.0.0.0"
    [(_, mounted, _)] = mounts("otel-collector")
    assert SERVICES["otel-collector"]["command"] == [f"--config={mounted}"]
    pipelines = COLLECTOR["service"]["pipelines"]
    assert set(pipelines) == {"traces", "logs", "metrics"}, "the nodes send all three"
    used = {kind: set() for kind in ("receivers", "processors", "exporters")}
    for pipeline in pipelines.values():
        for kind, names in pipeline.items():
            used[kind] |= set(names)
    assert all(used[kind] == set(COLLECTOR[kind]) for kind in used), used


def test_prometheus_asks_services_that_it_can_reach():
    names = {job["job_name"]: job["dns_sd_configs"][0] for job in PROMETHEUS["scrape_configs"]}
    assert names["grantlog"]["names"] == NODES + CLUSTER_NODES
    assert (names["kurrentdb"]["names"], names["kurrentdb"]["port"]) == (["kurrentdb"], KURRENTDB_PORT)
    for name in itertools.chain(*(config["names"] for config in names.values())):
        assert networks(name) & networks("prometheus"), name
    [(_, mounted, _), *_] = mounts("prometheus")
    assert f"--config.file={mounted}" in SERVICES["prometheus"]["command"]


def test_grafana_has_the_dashboard_and_what_it_reads_from():
    targets = {target: source for source, target, _ in mounts("grafana")}
    [provider] = PROVIDERS
    assert targets[provider["options"]["path"]] == "./docker/grafana/dashboards"
    home = Path(environment("grafana")["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / targets[str(home.parent)] / home.name).exists()
    assert targets["/etc/grafana/provisioning"] == "./docker/grafana/provisioning"
    for source in DATASOURCES:
        host, port = re.fullmatch(r"http://([\w-]+):(\d+)", source["url"]).groups()
        assert networks(host) & networks("grafana"), source
        # The same that is published.
        assert SERVICES[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    uids = {source["uid"] for source in DATASOURCES}
    used = set(re.findall(r'"uid": "(\w+)"', json.dumps([panels(), DASHBOARD["templating"]])))
    assert used and used <= uids, used
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def panels():
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions():
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def test_the_dashboard_shows_every_figure_that_grantlog_exports_and_none_that_it_does_not(server, administrator, a_name):
    made = administrator.register(a_name("dashboard.test/app"))
    for secret in (made["client_secret"], "wrong"):
        requests.post(
            f"{server.url}/connect/token",
            data={"grant_type": "client_credentials"},
            auth=(made["client_id"], secret),
        )
    requests.get(f"{server.url}/verify", headers={"Authorization": "Bearer none"})
    text = requests.get(f"{server.url}/metrics").text
    kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text))
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket"], "info": ["_info"]}
    exported = {name + suffix for name, kind in kinds.items() for suffix in suffixes[kind]}
    assert len(exported) > 15, text
    used = set(re.findall(r"grantlog_\w+", json.dumps([expressions(), DASHBOARD["templating"]])))
    assert used == exported
    # Labels, and their values, that a panel selects.
    for expression in expressions():
        for metric, selector in re.findall(r"(grantlog_\w+)\{([^}]*)\}", expression):
            series = [line for line in text.splitlines() if line.startswith(metric)]
            for label, value in re.findall(r'(\w+)="([^"]*)"', selector):
                assert any(f'{label}="{value}"' in line for line in series), (metric, label, value, series)
        assert expression.count("(") == expression.count(")"), expression
    for labels in re.findall(r"by \(([^)]*)\)", " ".join(expressions())):
        for label in labels.split(", "):
            known = {"instance", "le", "sink", "class"}
            assert label in known or re.search(rf'[{{,]{label}="', text), label


# --- keys, and the cluster


def make_keys(*arguments, password=None):
    variables = clean_environment()
    variables.pop("KURRENTDB_ADMIN_PASSWORD", None)
    if password is not None:
        variables["KURRENTDB_ADMIN_PASSWORD"] = password
    return subprocess.run([ROOT / "docker/make-keys", *arguments], env=variables, capture_output=True, text=True)


def test_the_master_key_is_made_once(tmp_path):
    assert make_keys("master", tmp_path).returncode == 0
    key = (tmp_path / "master.key").read_bytes()
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600
    again = make_keys("master", tmp_path)
    assert again.returncode == 0 and "is there" in again.stdout
    assert (tmp_path / "master.key").read_bytes() == key


@pytest.mark.parametrize("password", [None, "", "changeit", "with spaces and such", "p@ssword:in/a?url"])
def test_no_cluster_is_made_without_a_password_that_is_fit(password, tmp_path):
    made = make_keys("cluster", tmp_path, "kurrentdb-1", password=password)
    assert made.returncode == 1 and "KURRENTDB_ADMIN_PASSWORD" in made.stderr
    assert list(tmp_path.iterdir()) == []
    # And everything of the cluster waits for it.
    for node in KURRENTDB_NODES:
        assert SERVICES[node]["depends_on"] == {"cluster-keys": {"condition": "service_completed_successfully"}}


def test_each_node_of_the_cluster_has_a_certificate_for_its_name(tmp_path):
    what, folder, *names = SERVICES["cluster-keys"]["command"]
    assert (what, folder, names) == ("cluster", "/tls", KURRENTDB_NODES)
    made = make_keys("cluster", tmp_path, *names, password="0123456789abcdef")
    assert made.returncode == 0, made.stderr
    for node in names:
        certificate = tmp_path / node / "node.crt"
        for purpose in ("sslserver", "sslclient"):
            command = ["openssl", "verify", "-CAfile", tmp_path / "ca/ca.crt", "-purpose", purpose]
            verified = subprocess.run([*command, "-verify_hostname", node, certificate], capture_output=True, text=True)
            assert verified.returncode == 0, verified.stderr
        subject = subprocess.check_output(["openssl", "x509", "-in", certificate, "-noout", "-subject"], text=True)
        name = environment(node)["KURRENTDB_CERTIFICATE_RESERVED_NODE_COMMON_NAME"]
        # OpenSSL 3.2 and later leave the spaces out.
        assert re.search(rf"CN ?= ?{re.escape(name)}$", subject.strip())
        assert (tmp_path / node / "node.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "ca").iterdir()] == ["ca.crt"], "the authority's key is elsewhere"
    before = (tmp_path / "kurrentdb-1/node.crt").read_bytes()
    assert make_keys("cluster", tmp_path, *names, password="0123456789abcdef").returncode == 0
    assert (tmp_path / "kurrentdb-1/node.crt").read_bytes() == before


def test_prometheus_scrapes_what_the_document_says():
    targets = {job["job_name"]: set(job["dns_sd_configs"][0]["names"]) for job in PROMETHEUS["scrape_configs"]}
    assert targets == {"grantlog": {*NODES, *CLUSTER_NODES}, "kurrentdb": {"kurrentdb"}}
    assert not networks("prometheus") & {network for node in KURRENTDB_NODES for network in networks(node)}


def test_the_cluster_finds_itself_and_grantlog_the_cluster():
    for node in KURRENTDB_NODES:
        variables = environment(node)
        others = [f"{other}:{KURRENTDB_PORT}" for other in KURRENTDB_NODES if other != node]
        assert variables["KURRENTDB_GOSSIP_SEED"].split(",") == others
        assert variables["KURRENTDB_CLUSTER_SIZE"] == str(len(KURRENTDB_NODES))
        assert variables["KURRENTDB_NODE_HOST_ADVERTISE_AS"] == variables["KURRENTDB_REPLICATION_HOST_ADVERTISE_AS"] == node
        assert "KURRENTDB_INSECURE" not in variables and "ports" not in SERVICES[node]
        targets = {target: source for source, target, is_writable in mounts(node) if not is_writable}
        assert targets == {"/tls/ca": "cluster-ca", "/tls/node": f"{node}-tls"}
        for variable in ("CERTIFICATE_FILE", "CERTIFICATE_PRIVATE_KEY_FILE", "TRUSTED_ROOT_CERTIFICATES_PATH"):
            assert any(fnmatch.fnmatch(variables[f"KURRENTDB_{variable}"], f"{target}*") for target in targets)
        assert (f"{node}-tls", f"/tls/{node}", True) in mounts("cluster-keys")
    for node in CLUSTER_NODES:
        url = environment(node)["GRANTLOG__STORE__URL"]
        hosts, query = re.fullmatch(r"kurrentdb://admin:\$\{\w+:-\}@(.*)\?(.*)", url).groups()
        assert hosts.split(",") == [f"{host}:{KURRENTDB_PORT}" for host in KURRENTDB_NODES]
        assert query == "tls=true&tlsCAFile=/run/ca/ca.crt"
        assert ("cluster-ca", "/run/ca", False) in mounts(node)
        assert networks(node) & networks(KURRENTDB_NODES[0])
    of_cluster = {name for name, service in SERVICES.items() if service.get("profiles") == ["cluster"]}
    assert of_cluster == {"cluster-keys", *KURRENTDB_NODES, *CLUSTER_NODES, "nginx-cluster"}


def test_no_kurrentdb_has_projections_or_telemetry_or_secondary_indexes():
    for node in ["kurrentdb", *KURRENTDB_NODES]:
        variables = environment(node)
        assert variables["KURRENTDB_RUN_PROJECTIONS"] == "None"
        assert variables["KURRENTDB_START_STANDARD_PROJECTIONS"] == "false"
        assert variables["KURRENTDB_TELEMETRY_OPTOUT"] == "true"
        assert variables["KURRENTDB_SECONDARY_INDEXING__ENABLED"] == "false"
        assert {target for _, target, is_writable in mounts(node) if is_writable} == {
            "/var/lib/kurrentdb",
            "/var/log/kurrentdb",
        }
        assert SERVICES[node]["healthcheck"]["test"][-1].endswith(f"localhost:{KURRENTDB_PORT}/health/live")
    assert SERVICES["kurrentdb"]["ports"] == [f"127.0.0.1:{KURRENTDB_PORT}:{KURRENTDB_PORT}"]
    assert CONFIG["store"]["url"] == f"kurrentdb://kurrentdb:{KURRENTDB_PORT}?tls=false"
