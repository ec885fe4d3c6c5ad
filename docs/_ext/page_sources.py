"""The sources of pages that write themselves: members of open folders, modules, the command line.

Nothing here needs Sphinx: text goes out, so that the tests can read it. `house_pages.py` puts it where the
site is built from.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import cvxnn
from cvxnn.architectures import ARCHITECTURES, VECTOR_ARCHITECTURES
from cvxnn.losses import LOSSES, VECTOR_LOSSES
from cvxnn.solvers import SOLVERS

PACKAGE = Path(cvxnn.__file__).parent
EXAMPLES = PACKAGE.parent / "examples"


@dataclasses.dataclass(frozen=True)
class Member:
    """One member of an open folder: its name, and its classes (one output first, where there are two)."""

    name: str
    classes: tuple[type, ...]

    @property
    def modules(self) -> list[str]:
        """The modules the classes live in, without repetition."""
        return list(dict.fromkeys(cls.__module__ for cls in self.classes))

    @property
    def summary(self) -> str:
        """The first sentence of the first module."""
        return summary(importlib.import_module(self.modules[0]))


def members() -> dict[str, list[Member]]:
    """Return the members of every open folder, by folder, as the registries found them."""
    folders = {
        "architectures": (ARCHITECTURES, VECTOR_ARCHITECTURES),
        "losses": (LOSSES, VECTOR_LOSSES),
        "solvers": (SOLVERS,),
    }
    return {
        folder: [
            Member(name, tuple(registry[name] for registry in registries if name in registry))
            for name in sorted({name for registry in registries for name in registry})
        ]
        for folder, registries in folders.items()
    }


def rooms() -> list[str]:
    """Return the dotted names of all modules that are no member of an open folder."""
    taken = {module for folder in members().values() for member in folder for module in member.modules}
    found = [info.name for info in pkgutil.walk_packages([str(PACKAGE)], "cvxnn.")]
    return sorted(name for name in found if name not in taken)


def first_paragraph(thing: Any) -> str:
    """Return the first paragraph of a docstring on one line, or nothing."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()).rstrip(":")


def summary(thing: Any) -> str:
    """Return the first paragraph of a docstring without its full stop."""
    return first_paragraph(thing).rstrip(".")


def title(text: str, mark: str = "=") -> list[str]:
    return [text, mark * len(text), ""]


def member_page(folder: str, member: Member) -> str:
    """Return the source of the page of a member."""
    lines = [*title(member.name), *usage(folder, member), ""]
    for module in member.modules:
        if module != member.modules[0]:
            lines += title("Several outputs", "-")
        lines += [f".. automodule:: {module}", "   :no-members:", ""]
    lines += title("Options" if folder == "architectures" else "Class", "-")
    for cls in member.classes:
        lines += [f".. autoclass:: {cls.__module__}.{cls.__name__}", "   :no-members:", ""]
    drawn = examples(member) if folder == "architectures" else []
    if drawn:
        lines += [*title("Pictures", "-"), ".. minigallery::", ""]
        lines += [f"   ../examples/{name}" for name in drawn]
    return "\n".join(lines) + "\n"


def usage(folder: str, member: Member) -> list[str]:
    """Return the lines of code that ask for a member."""
    first = member.classes[0]
    if folder == "architectures":
        lines = [
            ".. code-block:: python",
            "",
            "   from cvxnn import ConvexNetRegressor",
            f"   from {first.__module__} import {first.__name__}",
            "",
            f'   ConvexNetRegressor(architecture="{member.name}")',
        ]
        if options(first):
            lines += [f"   ConvexNetRegressor(architecture={shown(first)})  # options, see below"]
        return lines
    if folder == "losses":
        kind = "Classifier" if first.classification else "Regressor"  # type: ignore[attr-defined]
        lines = [".. code-block:: python", "", f"   from cvxnn import ConvexNet{kind}"]
        if not options(first):
            return [*lines, "", f'   ConvexNet{kind}(loss="{member.name}")']
        lines += [f"   from cvxnn.losses import {first.__name__}", ""]
        return [
            *lines,
            f'   ConvexNet{kind}(loss="{member.name}")',
            f"   ConvexNet{kind}(loss={shown(first)})",
        ]
    lines = [".. code-block:: python", "", "   from cvxnn.solvers import SOLVERS, run", ""]
    return [*lines, f'   solution = run(SOLVERS["{member.name}"](), program, tol=1e-8)']


def options(cls: type) -> list[dataclasses.Field[Any]]:
    """Return what a user may set of a member: its fields, but not those that training sets."""
    found = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return [option for option in found if option.init and not option.kw_only]


def shown(cls: type) -> str:
    """Return the call of a class with the default of its first option that has one."""
    for option in options(cls):
        if option.default not in (dataclasses.MISSING, None):
            value = repr(option.default).replace("'", '"')
            return f"{cls.__name__}({option.name}={value})"
    return f"{cls.__name__}(...)"


def examples(member: Member) -> list[str]:
    """Return the files of the gallery that name a member, or one of its classes."""
    words = [rf'"{member.name}"', *(rf"\b{cls.__name__}\(" for cls in member.classes)]
    pattern = re.compile("|".join(words))
    return [path.name for path in sorted(EXAMPLES.glob("plot_*.py")) if pattern.search(path.read_text())]


def room_page(name: str) -> str:
    """Return the source of the page of a module: its docstring, and what is in it."""
    module = importlib.import_module(name)
    # a function of the package may have the name of its module, and is documented under it
    clash = name.rpartition(".")[2] in cvxnn.__all__
    lines = [*title(name.removeprefix("cvxnn.")), f".. automodule:: {name}", "   :no-members:"]
    lines += ["   :no-index:", ""] if clash else [""]
    contents = [line for member in public_members(module) for line in entry(name, member)]
    if contents:
        lines += [*title("Contents", "-"), *contents]
    return "\n".join(lines) + "\n"


def public_members(module: Any) -> list[Any]:
    """Return the functions and classes that a module defines, in its order."""
    tree = ast.parse(Path(module.__file__).read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [getattr(module, name) for name in dict.fromkeys(names) if not name.startswith("_")]


def entry(module: str, member: Any) -> list[str]:
    """Return the entry of a function or class on the page of its module: signature and summary."""
    kind, role = ("class", "class") if inspect.isclass(member) else ("function", "func")
    lines = [f".. py:{kind}:: {member.__name__}{signature(member)}", "   :no-index-entry:"]
    if f"{module}.{member.__name__}" in api_names():
        return [*lines, "   :no-index:", "", f"   :{role}:`In full <{module}.{member.__name__}>`.", ""]
    if f"cvxnn.{member.__name__}" in api_names():
        return [*lines, "", f"   In full: :{role}:`cvxnn.{member.__name__}`.", ""]
    lines += ["", f"   {escape(first_paragraph(member))}", ""]
    for name, method in vars(member).items() if kind == "class" else ():
        lines += method_entry(name, method)
    return lines


@cache
def api_names() -> frozenset[str]:
    """Return the dotted names of what the API reference documents in full."""
    module, found = "", set()
    for line in (Path(__file__).parents[1] / "api" / "index.rst").read_text().splitlines():
        if line.startswith(".. currentmodule::"):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            found.add(f"{module}.{line.strip()}")
    return frozenset(found)


def method_entry(name: str, method: Any) -> list[str]:
    """Return the entry of a method that has words of its own."""
    function = getattr(method, "__func__", getattr(method, "fget", method))
    if name.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
        return []
    kind = "property" if isinstance(method, property) else "method"
    shown = "" if kind == "property" else signature(function, bound=not isinstance(method, staticmethod))
    lines = [f"   .. py:{kind}:: {name}{shown}", "      :no-index-entry:", ""]
    return [*lines, f"      {escape(first_paragraph(function))}", ""]


def signature(function: Any, bound: bool = False) -> str:
    """Return names and defaults of the parameters, without their types."""
    try:
        found = inspect.signature(function)
    except ValueError:
        return ""
    parameters = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    parameters = [p if plain(p.default) else p.replace(default=...) for p in parameters]
    shown = found.replace(parameters=parameters[bound:], return_annotation=found.empty)
    return str(shown).replace("Ellipsis", "...")


def plain(value: Any) -> bool:
    return value is inspect.Parameter.empty or value is None or isinstance(value, str | int | float)


def room_index(names: list[str]) -> str:
    """Return the source of the list of all rooms."""
    lines = [
        *title("Every module"),
        "What each file of the package is about, in its own words: the idea, the formula, the source.",
        "Members of the open folders have pages of their own: :doc:`/architectures/index`,",
        ":doc:`/losses/index`, :doc:`/solvers/index`. For a map by subject see :doc:`/house`.",
        "",
    ]
    for name in names:
        text = escape(summary(importlib.import_module(name)))
        lines += [f":doc:`{name.removeprefix('cvxnn.')} <{name}>`", f"   {text}", ""]
    return "\n".join([*lines, ".. toctree::", "   :hidden:", "", *(f"   {name}" for name in names), ""])


def command_line_page() -> str:
    """Return the source of the page on the command line: its module's words, and every command's help."""
    from typer.main import get_command
    from typer.testing import CliRunner

    from cvxnn.cli import app

    lines = [*title("Command line"), ".. automodule:: cvxnn.cli", "   :no-members:", "   :no-index:", ""]
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name in commands:
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "96", "TERMINAL_WIDTH": "96"})
        assert shown.exit_code == 0, shown.output
        text = shown.output.replace("Usage: root", "Usage: cvxnn").strip("\n")
        lines += [
            *title(f"cvxnn {name}", "-"),
            ".. code-block:: text",
            "",
            textwrap.indent(text, "   "),
            "",
        ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return plain text of a docstring as reStructuredText: literals stay, stars and bars are escaped."""
    parts = re.split(r"(``.*?``|(?::[a-z]+:)?`[^`]+`)", text)
    return "".join(part if k % 2 else re.sub(r"([*|`_\\])", r"\\\1", part) for k, part in enumerate(parts))


def sources() -> dict[str, str]:
    """Return the text of every page by its path in the documentation."""
    pages = {"command_line.rst": command_line_page()}
    for folder, found in members().items():
        pages |= {f"{folder}/{member.name}.rst": member_page(folder, member) for member in found}
    pages |= {f"rooms/{name}.rst": room_page(name) for name in rooms()}
    return pages | {"rooms/index.rst": room_index(rooms())}


def member_table(folder: str) -> list[str]:
    """Return a table of the members of an open folder, and their pages in the contents."""
    outputs = folder == "architectures"
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", "", "   * - name"]
    lines += ["     - what it is", *(["     - outputs"] if outputs else [])]
    for member in members()[folder]:
        lines += [f"   * - :doc:`{member.name} </{folder}/{member.name}>`"]
        lines += [f"     - {escape(member.summary)}"]
        lines += [f"     - {'any' if len(member.classes) > 1 else 'one'}"] if outputs else []
    pages = [f"   /{folder}/{member.name}" for member in members()[folder]]
    return [*lines, "", ".. toctree::", "   :hidden:", "", *pages]


def module_named(text: str) -> str | None:
    """Return the module that a word of the map of the house means, or None."""
    name = text.removesuffix(".py").strip("/").replace("/", ".")
    known = {*rooms(), *(module for found in members().values() for m in found for module in m.modules)}
    return next((full for full in (f"cvxnn.{name}", f"cvxnn.architectures.{name}") if full in known), None)
