"""Pages with code are true: it runs as it stands there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from cvxnn import ConvexNetRegressor
from cvxnn.architectures import ARCHITECTURES
from cvxnn.train import get_architecture

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "adding_an_architecture.md"


def test_a_family_added_by_the_page(monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)
    assert len(blocks) == 3
    page = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # dataclasses look their module up
    for block in blocks:
        exec(compile(block, PAGE.name, "exec"), page.__dict__)
    assert "no network with the same activation patterns can be below" in capsys.readouterr().out
    assert page.model.certificate_.gap < 1e-5 and page.model.network_.width > 5
    monkeypatch.setitem(ARCHITECTURES, "random_features", page.RandomFeatures)
    named = ConvexNetRegressor(alpha=0.1, architecture="random_features").fit(page.X, page.y)
    assert named.certificate_.gap < 1e-5
    assert get_architecture("random_features", None, "auto", options={"hidden": 7}).hidden == 7


def test_the_page_on_formats(monkeypatch, tmp_path):
    for library in ("onnx", "onnxruntime", "skl2onnx", "torch"):
        pytest.importorskip(library)
    page = (DOCS / "export.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) == 7
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, "export.md", "exec"), names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.c", "network.safetensors"]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {row.split("`")[1] for row in rows} >= set(ARCHITECTURES)
