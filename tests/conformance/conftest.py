"""The server under test, and what the tests of all clients share.

    VESPID_HTTP=HOST:PORT VESPID_GRPC=HOST:PORT VESPID_ADMIN=HOST:PORT python -m pytest tests/conformance/test_triton_http.py

`cargo xtask test` starts a server for each file and runs the file in a process of its own: the counters of a server are compared
before and after, and kserve and tritonclient.grpc cannot be loaded together (both register the protocol's messages).

What is expected comes from the protocols, from Triton's documents and from its example clients.
"""

import os
import re
import time
import urllib.request
from collections.abc import Callable

import pytest

# Far more than anything here takes, on a machine that is busy with other things.
PATIENCE = 30.0

LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def _address(variable: str) -> str:
    address = os.environ.get(variable)
    if not address:
        pytest.exit(f"{variable} is not set: run `cargo xtask test`, or name a server's address HOST:PORT", returncode=4)
    return address


@pytest.fixture(scope="session")
def http_address() -> str:
    return _address("VESPID_HTTP")


@pytest.fixture(scope="session")
def grpc_address() -> str:
    return _address("VESPID_GRPC")


class Metrics:
    """What the server has counted, as Prometheus reads it."""

    def __init__(self, url: str):
        self._url = url

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of a metric's values over what bears these labels; 0 where nothing does."""
        with urllib.request.urlopen(self._url, timeout=PATIENCE) as response:
            text = response.read().decode()
        total = 0.0
        for line in text.splitlines():
            match = LINE.fullmatch(line.strip())
            if match and match["name"] == name:
                found = dict(LABEL.findall(match["labels"] or ""))
                if labels.items() <= found.items():
                    total += float(match["value"])
        return total


@pytest.fixture(scope="session")
def metrics() -> Metrics:
    return Metrics(f"http://{_address('VESPID_ADMIN')}/metrics")


def eventually(what: str, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Waits until something holds, which the server does at its own time."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.01)
