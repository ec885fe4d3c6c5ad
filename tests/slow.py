"""Which tests are slow: `make test` leaves them to `make slow`, so that it ends in a quarter of an hour.

They are listed in ``slow.txt``, by name; :mod:`conftest` marks them. After a run of all tests,

    python -m pytest -n 2 --junitxml=all.xml
    python tests/slow.py all.xml

writes the list again: the longest tests, until the others take `SECONDS`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

#: Seconds of the tests that are not slow, of one process.
SECONDS = 1500.0
LIST = Path(__file__).with_name("slow.txt")


def names() -> list[str]:
    """Return the names of the slow tests."""
    return [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]


def times(report: Path) -> dict[str, float]:
    """Return the seconds of every test of a report in JUnit's format, by name."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        *folders, last = case.attrib["classname"].split(".")
        found[f"{'/'.join([*folders, last])}.py::{case.attrib['name']}"] = float(case.attrib["time"])
    return found


def write(report: Path) -> None:
    """List the longest tests of a report, until the others take `SECONDS`."""
    taken = times(report)
    left, chosen = sum(taken.values()), []
    for name in sorted(taken, key=lambda name: -taken[name]):
        if left <= SECONDS:
            break
        chosen.append(name)
        left -= taken[name]
    LIST.write_text("\n".join(["# Written by tests/slow.py.", *sorted(chosen), ""]))
    print(f"{len(chosen)} of {len(taken)} tests are slow; the others take {left:.0f} seconds")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
