"""Fixtures shared by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import slow
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")

_GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "reference" / "golden.json"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the slow tests; a name on their list that there is no longer is an error."""
    listed = set(slow.names())
    for item in items:
        if item.nodeid in listed:
            item.add_marker(pytest.mark.slow)
    gone = listed - {item.nodeid for item in items}
    if gone and config.args == config.getini("testpaths"):
        raise pytest.UsageError(f"tests/slow.txt lists tests that there are not: {sorted(gone)}")


@pytest.fixture(scope="session")
def golden() -> list[dict[str, Any]]:
    """Reference problems with independently known optima; the test is skipped without them."""
    if not _GOLDEN.exists():
        pytest.skip("the reference values are not available")
    return json.loads(_GOLDEN.read_text())
