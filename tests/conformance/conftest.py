"""The channels under test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.link import Connector


@pytest.fixture(params=["local", "shm"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connector]:
    """Makes channels of each implementation."""
    connector = Connector(request.param)
    yield connector
    connector.close()


@pytest.fixture
def share() -> Iterator[Connector]:
    """Makes channels in shared memory, for what only they promise."""
    connector = Connector("shm")
    yield connector
    connector.close()
