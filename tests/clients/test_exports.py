"""Exports of the audit trail, read by what others use: Python's csv module, and the published OCSF schema."""

import copy
import csv
import io
import json
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
from running_server import BINARY, PATIENCE_SECONDS, Administrator, RunningServer

# What the schema calls its versions is in its own file. 1.7 is the newest that is packaged; a minor version adds
# and takes nothing away, so what fulfils it is expected of 1.8 too, but for the version that an event says.
SCHEMAS = ["1.6.0", "1.7.0-dev"]
HOSTILE = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1+1)",
    "\t=1",
    "\r=1",
    "'=already quoted",
    'comma, "quotes" and\nlines\r\n',
    "＝full width",
    "ordinary",
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A server of its own with an event of most types, and the folder for its exports."""
    folder = tmp_path_factory.mktemp("exports")
    server = RunningServer(folder / "data")
    administrator = Administrator(server)
    # A name is free text, and so is a client_id that nobody has.
    for number, text in enumerate(HOSTILE):
        administrator.register(f"app-{number}", description=text.replace("\r", "").replace("\n", " ").strip() or "-")
        requests.post(
            f"{server.url}/connect/token",
            data={"grant_type": "client_credentials", "client_id": text, "client_secret": "x"},
            headers={"User-Agent": text.strip() if text.strip().isascii() and "\n" not in text.strip() else "plain"},
        )
    grantlog(server, "app", "rotate-secret", "app-0", "--reason", '=HYPERLINK("http://x"), really')
    grantlog(server, "app", "change", "app-1", "--scope", "read", "--reason", "@home")
    grantlog(server, "app", "disable", "app-2", "--reason", "+1")
    grantlog(server, "app", "enable", "app-2")
    grantlog(server, "api", "register", "https://api.example", "--name", "An API")
    grantlog(server, "key", "rotate", "--reason", "yearly")
    grantlog(server, "audit", "search", "--limit", "1")
    grantlog(server, "audit", "export", "-o", folder / "before.ndjson")
    requests.get(f"{server.url}/audit/events", headers={"Authorization": "Bearer x"})
    yield server, folder
    assert server.stop() == 0


def grantlog(server, *arguments):
    done = subprocess.run(
        [BINARY, *arguments, "--data-dir", server.data_dir], capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stderr}"
    return done.stdout


def export(exported, form, through):
    server, folder = exported
    file = folder / f"trail.{form}"
    grantlog(server, "audit", "export", "--force", "--format", form, "--through-index", str(through), "-o", file)
    manifest = json.loads((folder / f"trail.{form}.manifest.json").read_text())
    assert (manifest["format"], manifest["through_index"]) == (form, through)
    return file.read_bytes(), manifest


@pytest.fixture(scope="module")
def events(exported):
    """The trail as it was when it was first exported, by its indexes."""
    server, folder = exported
    file = folder / "first.ndjson"
    grantlog(server, "audit", "export", "-o", file)
    events = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
    assert [event["index"] for event in events] == list(range(len(events)))
    return events


def test_a_standard_reader_finds_in_a_csv_file_what_the_trail_has(exported, events):
    content, manifest = export(exported, "csv", len(events))
    assert content.endswith(b"\r\n")
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert len(rows) == len(events) == manifest["count"]
    for row, event in zip(rows, events, strict=True):
        assert None not in row, "a row with more cells than the header"
        restored = {name: cell[1:] if cell.startswith("'") else cell for name, cell in row.items()}
        source = event["source"] or {}
        for name in ("index", "id", "time", "type", "outcome", "client_id", "actor", "trace_id", "stream", "revision"):
            assert restored[name] == ("" if event[name] is None else str(event[name])), name
        assert restored["source_ip"] == source.get("ip", "")
        assert restored["user_agent"] == (source.get("user_agent") or "")
        assert json.loads(restored["data"]) == event["data"]
        for name in ("error", "reason", "jti", "system_user", "org_code", "scope", "method", "path", "token_hint"):
            assert restored[name] == (event["data"].get(name) or ""), name


def test_no_cell_of_a_csv_file_is_taken_for_a_formula(exported, events):
    content, _ = export(exported, "csv", len(events))
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))]
    # There was something to neutralise. (What is presented as a client_id is recorded without control characters.)
    assert {f"'{text}" for text in HOSTILE if text.startswith(("=", "+", "-", "@", "'", "＝"))} <= set(cells)


def test_a_csv_file_has_the_columns_that_its_documentation_names(exported, events):
    content, _ = export(exported, "csv", len(events))
    documentation = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text()
    header = content.split(b"\r\n")[0].decode()
    assert f"\n{header}\n" in documentation


@pytest.fixture(params=SCHEMAS)
def schema(request):
    package = find_spec("tenzir_mcp")
    assert package, "pip install --no-deps -r tests/clients/requirements-no-deps.txt"
    folder = Path(package.submodule_search_locations[0])
    return json.loads((folder / "data" / "ocsf" / f"{request.param}.json").read_text())


def without_secrets(data):
    """What another system gets of an event: hashes of secrets and sealed keys are withheld."""
    data = copy.deepcopy(data)
    if data.get("secret", {}).get("hash"):
        data["secret"]["hash"] = "withheld"
    for name in ("hash", "sealed_private_key"):
        if data.get(name):
            data[name] = "withheld"
    return data


def test_every_ocsf_record_is_as_the_published_schema_says(exported, events, schema):
    content, manifest = export(exported, "ocsf", len(events))
    records = [json.loads(line) for line in content.decode().split("\n")[:-1]]
    assert len(records) == len(events) == manifest["count"]
    classes = {definition["uid"]: definition for definition in schema["classes"].values()}
    seen = set()
    for record, event in zip(records, events, strict=True):
        definition = classes[record["class_uid"]]
        problems = list(problems_of(record, definition, schema, definition["name"]))
        assert not problems, f"{problems}\n{record}"
        assert record["type_uid"] == record["class_uid"] * 100 + record["activity_id"]
        assert record["category_uid"] == record["class_uid"] // 1000
        assert record["class_name"] == definition["caption"]
        for name in ("activity", "severity", "status"):
            told = record["activity_name" if name == "activity" else name]
            assert definition["attributes"][f"{name}_id"]["enum"][str(record[f"{name}_id"])]["caption"] == told
        # Nothing is lost, and nothing is another's.
        assert record["metadata"]["version"] == "1.8.0"
        assert (record["metadata"]["uid"], record["metadata"]["sequence"]) == (event["id"], event["index"])
        assert record["metadata"]["original_time"] == event["time"]
        assert record["unmapped"]["data"] == without_secrets(event["data"])
        assert record["status_id"] == {"success": 1, "refused": 2}[event["outcome"]]
        seen.add((record["class_uid"], event["type"]))
    assert {(3002, "TokenRefused"), (3002, "TokenIssued"), (6003, "ApiCallAuthorized"), (6003, "ApiCallDenied")} <= seen
    assert {(6003, "AuditTrailRead"), (6003, "AuditTrailExported"), (6002, "ServiceStarted")} <= seen
    assert {(3004, "ApplicationRegistered"), (3004, "SecretRotated"), (3004, "SigningKeyAdded")} <= seen
    assert {(3004, "ApiRegistered"), (3004, "ApplicationChanged"), (3004, "ApplicationDisabled")} <= seen


def problems_of(value, definition, schema, at):
    """What the schema has against an object: unknown and missing attributes, constraints, types, enumerations."""
    attributes = definition["attributes"]
    for name, attribute in attributes.items():
        if attribute.get("requirement") == "required" and not attribute.get("profile") and name not in value:
            yield f"{at}.{name} is required"
    one_of = (definition.get("constraints") or {}).get("at_least_one", [])
    if one_of and not any(name in value for name in one_of):
        yield f"{at} has none of {one_of}"
    for name, member in value.items():
        attribute = attributes.get(name)
        if attribute is None:
            yield f"{at}.{name} is no attribute"
            continue
        members = member if attribute.get("is_array") else [member]
        if attribute.get("is_array") and not isinstance(member, list):
            yield f"{at}.{name} is no array"
            continue
        for one in members:
            yield from problems_of_one(one, attribute, schema, f"{at}.{name}")


# The schema's scalar types, by what they are in JSON. The rest are texts.
NUMBERS = {"integer_t", "long_t", "timestamp_t", "port_t"}


def problems_of_one(value, attribute, schema, at):
    kind = attribute.get("object_type")
    if kind and kind != "object":
        if not isinstance(value, dict):
            yield f"{at} is no {kind}"
        else:
            yield from problems_of(value, schema["objects"][kind], schema, at)
        return
    kind = attribute["type"]
    if kind in ("object_t", "json_t"):
        return
    if kind in NUMBERS:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif kind == "boolean_t":
        fits = isinstance(value, bool)
    else:
        fits = isinstance(value, str)
    if not fits:
        yield f"{at} is no {kind}: {value!r}"
    if "enum" in attribute and str(value) not in attribute["enum"]:
        yield f"{at} is {value!r}, not one of {sorted(attribute['enum'])}"
