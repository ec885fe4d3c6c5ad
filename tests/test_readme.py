"""Every line of Python in the README runs, and the commands it names exist."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from typer.testing import CliRunner

from cvxnn.cli import app

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()


def test_python_blocks_run_in_order(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("no network of any width can be below") == 2
    assert names["clf"].certificate_.gap < 0.2


def test_commands_exist():
    commands = set(re.findall(r"^\$ cvxnn (\w+)", README, flags=re.M))
    assert commands == {"fit", "path", "predict", "certify"}
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
