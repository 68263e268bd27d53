"""One server for all tests, and applications of their own for each."""

import itertools
import os

import pytest
from hypothesis.configuration import set_hypothesis_home_dir
from refusals import REFUSALS
from running_server import ROOT, Administrator, RunningServer

# oauthlib and requests-oauthlib refuse http://; the server under test listens on the loopback interface.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

# What it keeps is no part of the source.
set_hypothesis_home_dir(ROOT / "target" / "hypothesis")

numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = RunningServer(tmp_path_factory.mktemp("grantlog") / "data")
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="session")
def administrator(server):
    return Administrator(server)


@pytest.fixture
def application(administrator):
    """An application that may do everything that the tests ask for; nobody else uses it."""
    return administrator.register(f"clients.test/app-{next(numbers)}")


@pytest.fixture
def a_name():
    """Names that no other test uses."""
    return lambda prefix: f"{prefix}-{next(numbers)}"


@pytest.fixture
def token_endpoint(server):
    return f"{server.url}/connect/token"


@pytest.fixture(params=REFUSALS, ids=lambda make: make.__name__)
def refusal(request, administrator):
    """Each error of the token endpoint in turn, for an application of its own."""
    return request.param(administrator, f"clients.test/refused-{next(numbers)}")


@pytest.fixture
def failing_server(tmp_path):
    """A server whose disk is full, and an application's credentials: its next answer is a 503, its last."""
    running = RunningServer(tmp_path / "data")
    made = Administrator(running).register("clients.test/app")
    running.fill_disk()
    yield running, made["client_id"], made["client_secret"]
    assert running.stop() != 0, "a server whose log has failed does not end as if nothing had happened"
