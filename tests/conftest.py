"""Fixtures shared by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "reference" / "golden.json"


@pytest.fixture(scope="session")
def golden() -> list[dict[str, Any]]:
    """Reference problems with independently known optima; the test is skipped without them."""
    if not _GOLDEN.exists():
        pytest.skip("the reference values are not available")
    return json.loads(_GOLDEN.read_text())
