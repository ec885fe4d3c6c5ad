"""The code of a page, and whether what it prints is what the page says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

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
