"""Fixtures shared by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")

_GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "reference" / "golden.json"


@pytest.fixture(scope="session")
def golden() -> list[dict[str, Any]]:
    """Reference problems with independently known optima; the test is skipped without them."""
    if not _GOLDEN.exists():
        pytest.skip("the reference values are not available")
    return json.loads(_GOLDEN.read_text())
