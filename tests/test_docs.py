"""The pages of the documentation are true: their code runs as it stands there, and prints what they say."""

from __future__ import annotations

import importlib.util
import re
import sys
import types
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cvxnn import ConvexNetRegressor
from cvxnn.architectures import ARCHITECTURES
from cvxnn.cli import app
from cvxnn.train import get_architecture

DOCS = Path(__file__).resolve().parents[1] / "docs"
FAMILY = DOCS / "adding_an_architecture.md"

#: A fence of code or of a console, and the output that a fence of text right after it claims.
FENCE = re.compile(r"^```(python|console)\n(.*?)^```\n(?:\n*^```text\n(.*?)^```\n)?", flags=re.S | re.M)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
#: Sizes below which numbers with an exponent are rounding errors, another one on every machine.
NOISE = 1e-5


@dataclass(frozen=True)
class Block:
    """A fence of a page, with the line that it begins at."""

    kind: str
    text: str
    output: str | None
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(match[1], match[2], match[3], text.count("\n", 0, match.start()) + 1)
        for match in FENCE.finditer(text)
    ]


#: Folders of what the site's build writes.
BUILT = {"_build", "auto_examples", "api"}
PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page != FAMILY and not BUILT & set(page.relative_to(DOCS).parts) and blocks_of(page)
]


def unit(number: str) -> float:
    """One unit in the last digit that is printed."""
    mantissa, _, exponent = number.lower().partition("e")
    digits = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - digits)


def agree(said: str, printed: str) -> bool:
    """Whether output is as a page says, up to spaces and a unit in the last digit of every number."""
    if NUMBER.sub("#", " ".join(said.split())) != NUMBER.sub("#", " ".join(printed.split())):
        return False
    pairs = zip(NUMBER.findall(said), NUMBER.findall(printed), strict=True)
    for wanted, found in pairs:
        noise = "e-" in wanted and "e-" in found and max(abs(float(wanted)), abs(float(found))) < NOISE
        if not noise and abs(float(wanted) - float(found)) > 1.001 * unit(wanted):
            return False
    return True


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
