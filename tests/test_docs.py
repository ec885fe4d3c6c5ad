"""The pages of the documentation are true: their code runs as it stands there, and prints what they say."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
import warnings
from pathlib import Path

import pytest
from pages import Block, agree, blocks_of
from typer.testing import CliRunner

from cvxnn import ConvexNetRegressor
from cvxnn.architectures import ARCHITECTURES
from cvxnn.cli import app
from cvxnn.train import get_architecture

DOCS = Path(__file__).resolve().parents[1] / "docs"
FAMILY, FORMATS = DOCS / "adding_an_architecture.md", DOCS / "export.md"

#: Folders of what the site's build writes.
BUILT = {"_build", "auto_examples", "api"}
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page not in (FAMILY, FORMATS) and not BUILT & set(page.relative_to(DOCS).parts) and blocks_of(page)
]


def test_outputs_agree_to_the_last_digit_only():
    assert agree("gap 1.55 %, 3 neurons", "gap  1.56 %, 3 neurons")
    assert agree("search gap 6.1e-10", "search gap 2.0e-09")
    assert not agree("gap 1.55 %", "gap 1.57 %")
    assert not agree("gap 1.5e-04", "gap 1.7e-04")
    assert not agree("3 neurons", "5 neurons")
    assert not agree("scope global", "scope bounded")


def run_console(block: Block) -> str:
    """What the commands of a console print, or nothing where only other programs are called."""
    printed = ""
    for line in re.findall(r"^\$ cvxnn (.*)$", block.text, flags=re.M):
        result = CliRunner().invoke(app, line.split())
        assert result.exit_code == 0, f"cvxnn {line}: {result.output}"
        printed += result.stdout
    return printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_is_true(page, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses look their module up
    for block in blocks_of(page):
        if "import torch" in block.text and importlib.util.find_spec("torch") is None:
            continue
        place = f"{page.name}, line {block.line}"
        if block.kind == "console":
            printed = run_console(block)
        else:
            capsys.readouterr()
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                exec(compile(block.text, place, "exec"), module.__dict__)
            printed = capsys.readouterr().out
        assert block.output is None or agree(block.output, printed), f"{place} prints\n{printed}"


def test_a_family_added_by_the_page(monkeypatch, capsys):
    blocks = [block.text for block in blocks_of(FAMILY) if block.kind == "python"]
    assert len(blocks) == 3
    page = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # dataclasses look their module up
    for block in blocks:
        exec(compile(block, FAMILY.name, "exec"), page.__dict__)
    assert "no network with the same activation patterns can be below" in capsys.readouterr().out
    assert page.model.certificate_.gap < 1e-5 and page.model.network_.width > 5
    monkeypatch.setitem(ARCHITECTURES, "random_features", page.RandomFeatures)
    named = ConvexNetRegressor(alpha=0.1, architecture="random_features").fit(page.X, page.y)
    assert named.certificate_.gap < 1e-5
    assert get_architecture("random_features", None, "auto", options={"hidden": 7}).hidden == 7


def test_the_page_on_formats(monkeypatch, tmp_path):
    for library in ("onnx", "onnxruntime", "skl2onnx", "torch"):
        pytest.importorskip(library)
    page = FORMATS.read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) == 7
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, "export.md", "exec"), names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.c", "network.safetensors"]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {row.split("`")[1] for row in rows} >= set(ARCHITECTURES)
