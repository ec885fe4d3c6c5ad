"""The site is complete before it is built: `make docs` builds it, and follows its links."""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import cvxnn
from cvxnn import layers, window_layers
from cvxnn.architectures import ARCHITECTURES, VECTOR_ARCHITECTURES
from cvxnn.losses import LOSSES, VECTOR_LOSSES, get_loss
from cvxnn.operators import Dense
from cvxnn.penalties import GroupL2
from cvxnn.program import Problem, Program
from cvxnn.solvers import SOLVERS, Solver
from cvxnn.vector_operators import Columns

DOCS = Path(__file__).resolve().parents[1] / "docs"


def load(path: str) -> ModuleType:
    """A file of the documentation as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, DOCS / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


page_sources, formulas = load("_ext/page_sources.py"), load("_ext/formulas.py")
gallery_order, check_links = load("_ext/gallery_order.py"), load("check_links.py")
repository_links = load("_ext/repository_links.py")
PAGES = page_sources.sources()


def small_program(solver: Solver) -> Program:
    """A program that the solver takes: a group Lasso on masks or with output vectors, a Lasso, or a linear
    or gated network of two outputs."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((6, 2))
    problem = Problem.from_alpha(X, X[:, 0], None, LOSSES["squared_error"](), 0.1, False)
    gated = ARCHITECTURES["gated_relu"](patterns=3)
    masked = gated.lift(problem, gated.arrange(problem, rng))
    rest = (problem.y, problem.weights, problem.beta, GroupL2())
    lasso = Program(Dense(problem.X), problem.loss, *rest, intercept=False)
    columns = Program(Columns(np.sign(X), 2), get_loss("squared_error", 2), X, *rest[1:], intercept=False)
    both = Problem.from_alpha(X, X, None, get_loss("squared_error", 2), 0.1, False)
    linear = VECTOR_ARCHITECTURES["linear"]()
    matrix = linear.lift(both, linear.arrange(both, rng))
    family = VECTOR_ARCHITECTURES["gated_relu"](patterns=3)
    matrices = family.lift(both, family.arrange(both, rng))
    several = (matrix, matrices)
    return next(program for program in (masked, lasso, columns, *several) if solver.supports(program)[0])


@pytest.mark.parametrize(
    ("folder", "registries"),
    [
        ("architectures", (ARCHITECTURES, VECTOR_ARCHITECTURES)),
        ("losses", (LOSSES, VECTOR_LOSSES)),
        ("solvers", (SOLVERS,)),
    ],
)
def test_every_member_has_a_page_and_a_line_in_the_table(folder, registries):
    table = "\n".join(page_sources.member_table(folder))
    for registry in registries:
        for name, cls in registry.items():
            page = PAGES[f"{folder}/{name}.rst"]
            assert f".. automodule:: {cls.__module__}\n" in page
            assert f".. autoclass:: {cls.__module__}.{cls.__name__}\n" in page
            assert f'"{name}"' in page  # how to ask for it
            code = page.split(".. code-block:: python\n\n")[1].split("\n\n.. automodule")[0]
            known = {"program": small_program(cls())} if folder == "solvers" else {}
            exec(textwrap.dedent(code), known)
            assert folder != "solvers" or known["solution"].gap < 1e-6
            assert f"   /{folder}/{name}\n" in table + "\n"


def test_a_new_architecture_has_a_page(monkeypatch):
    class Renamed(ARCHITECTURES["relu"]):
        """Another family."""

        name = "renamed"

    monkeypatch.setitem(page_sources.ARCHITECTURES, "renamed", Renamed)
    assert 'architecture="renamed"' in page_sources.sources()["architectures/renamed.rst"]


def test_every_module_has_a_page():
    package = DOCS.parent / "cvxnn"
    text = "\n".join(PAGES.values())
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        assert name == "cvxnn" or f".. automodule:: {name}\n" in text, name


def test_every_public_name_is_in_the_reference():
    names = page_sources.api_names()
    missing = {f"cvxnn.{name}" for name in cvxnn.__all__ if name[0] != "_"} - names
    assert not missing, f"list {sorted(missing)} in docs/api/index.rst"
    vocabulary = {
        name
        for module in (layers, window_layers)
        for name, thing in vars(module).items()
        if isinstance(thing, type) and "__call__" in vars(thing)
    }
    assert len(vocabulary) > 10 and {f"cvxnn.layers.{name}" for name in vocabulary} <= names
    for name in names:
        module, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(module), last), name


def entries(path: str, text: str) -> set[str]:
    """The pages that the toctrees of a page name, without suffix, from the root of the documentation."""
    lines = text.splitlines()
    found = set()
    for k, line in enumerate(lines):
        if not re.match(r"\s*(```\{toctree\}|\.\. toctree::)", line):
            continue
        for entry in lines[k + 1 :]:
            if entry.startswith("```") or (entry and not line.startswith("```") and entry[0] != " "):
                break
            match = re.search(r"<(.+)>$", entry) or re.match(r"\s*([\w/.-]+)$", entry)
            if match:
                found.add(
                    match[1][1:] if match[1][0] == "/" else str((Path(path).parent / match[1]).as_posix())
                )
    return found


def test_every_page_is_in_a_table_of_contents():
    written = {str(p.relative_to(DOCS)) for pattern in ("*.md", "*.rst") for p in DOCS.rglob(pattern)}
    written = {
        path for path in written if path.split("/")[0] not in ("_build", "_templates", "auto_examples")
    }
    kept = {path for path in written if "generated" not in path and "backreferences" not in path} - set(
        PAGES
    )
    texts = PAGES | {path: (DOCS / path).read_text() for path in kept}
    named = set().union(*(entries(path, text) for path, text in texts.items()))
    for folder in page_sources.members():
        named |= entries(f"{folder}/index.rst", "\n".join(page_sources.member_table(folder)))
    missing = {path for path in texts if path.rsplit(".", 1)[0] not in named} - {"index.md"}
    assert not missing, f"name {sorted(missing)} in a toctree"


def test_an_indented_block_is_a_formula_and_a_list_is_none():
    text = [
        "Prose,",
        "",
        "    f = x *y*",
        "    g = 1",
        "",
        "goes on.",
        "",
        "- a point",
        "",
        "  and more of it",
    ]
    out = formulas.literal_formulas(text)
    assert out.count(".. code-block:: text") == 1
    at = out.index(".. code-block:: text")
    assert out[at + 3 : at + 5] == text[2:4] and out[-4:] == text[-4:]
    assert formulas.literal_formulas(["As such::", "", "    x"]) == ["As such::", "", "    x"]


def test_links_that_leave_the_documentation():
    text = "[a](../CHANGELOG.md) ![p](../x.png) [b](../benchmarks/results) [c](../../cvxnn/cli.py#L1)"
    found = repository_links.site_links(text, "theory")
    assert found == text.replace("[c](../../cvxnn/cli.py#L1)", "c (`cvxnn/cli.py`)")
    root = repository_links.site_links(text.replace("../../", "../"), "")
    assert "[a](changelog.md) ![p](../x.png) b (`benchmarks/results`) c (`cvxnn/cli.py`)" in root


def test_summaries_are_safe_to_print():
    assert (
        page_sources.escape("``|w|_2`` and |w|_2 *here*, `x_`") == r"``|w|_2`` and \|w\|\_2 \*here\*, `x_`"
    )


def test_the_gallery_names_examples_that_exist():
    examples = {path.name for path in (DOCS.parent / "examples").glob("plot_*.py")}
    assert set(gallery_order.ORDER) <= examples
    assert sorted(["plot_new.py", *gallery_order.ORDER[::-1]], key=gallery_order.key)[-1] == "plot_new.py"


def test_broken_links_are_found(tmp_path, capsys):
    (tmp_path / "index.html").write_text(
        '<a href="b.html#there">x</a><a href="#top">y</a><p id="top"><a href="https://example.org">z</a>'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1><img src="data:image/png;base64,AA">')
    assert check_links.faults(tmp_path) == [] and check_links.main([str(tmp_path)]) == 0
    (tmp_path / "c.html").write_text(
        '<a href="b.html#nowhere">x</a><a href="d.html">y</a><script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "s.css").write_text("p { background: url(gone.png) } @import 'https://example.org/f.css';")
    assert check_links.main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    for fault in (
        "no place #nowhere",
        "no file d.html",
        "loads https://example.org/x.js",
        "no file gone.png",
    ):
        assert fault in said
    assert "f.css: from outside" in said and "5 faults" in said
