"""Every line of Python in the README runs, and the commands it names exist."""

from __future__ import annotations

import re
from pathlib import Path

from pages import agree, blocks_of
from typer.testing import CliRunner

from cvxnn.cli import app

PAGE = Path(__file__).resolve().parents[1] / "README.md"
README = PAGE.read_text()


def test_python_blocks_run_in_order_and_print_what_is_said(capsys):
    blocks = [block for block in blocks_of(PAGE) if block.kind == "python"]
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        capsys.readouterr()
        exec(compile(block.text, "README.md", "exec"), names)
        printed = capsys.readouterr().out
        assert "no network of any width can be below" in printed
        assert block.output is not None and agree(block.output, printed), printed
    assert names["clf"].certificate_.gap < 0.2


def test_commands_exist():
    commands = set(re.findall(r"^\$ cvxnn (\w+)", README, flags=re.M))
    assert commands == {"fit", "path", "predict", "certify", "report", "export"}
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
