"""Pages that write themselves: one for every member of an open folder, one for every other module.

A file in `cvxnn/architectures/`, `losses/` or `solvers/` is a registration, so the site must not need a
second one. Before Sphinx reads its sources this extension writes, from what the registries found,

    docs/architectures/NAME.rst    the module's docstring, then the classes with their parameters
    docs/losses/NAME.rst           likewise
    docs/solvers/NAME.rst          likewise
    docs/rooms/MODULE.rst          the docstring of a module that is no member, and what is in it by name
    docs/command_line.rst          what `cvxnn COMMAND --help` prints

and the directive ``.. members:: FOLDER`` puts a table of the members, with links, on a page of prose and
lists them in its table of contents. None of the written pages is kept in git.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from page_sources import member_table, module_named, sources
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode


def write_pages(app: Sphinx) -> None:
    """Write all pages; those of members that are gone are removed, unchanged ones are not touched."""
    source = Path(app.srcdir)
    with mock(app.config.autodoc_mock_imports):
        pages = {source / path: text for path, text in sources().items()}
    for folder in {path.parent for path in pages} - {source}:
        folder.mkdir(exist_ok=True)
        for old in set(folder.glob("*.rst")) - {*pages, folder / "index.rst"}:
            old.unlink()
    for path, text in pages.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


class Members(SphinxDirective):
    """``.. members:: FOLDER``: a table of an open folder, and its pages in the contents."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(member_table(self.arguments[0])))


def link_rooms(app: Sphinx, doctree: nodes.document) -> None:
    """On the map of the house, make links of literals that name a module."""
    if app.env.docname != "house":
        return
    for literal in list(doctree.findall(nodes.literal)):
        module = module_named(literal.astext())
        if module and not isinstance(literal.parent, nodes.reference):
            link = pending_xref("", refdomain="py", reftype="mod", reftarget=module, refexplicit=True)
            link["refdoc"], link["refwarn"] = app.env.docname, True
            literal.replace_self(link)
            link += literal


def room_of_module(app: Sphinx, env: Any, node: pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Lead a module to its page where a function of the package has its name in the index."""
    page = f"rooms/{node.get('reftarget', '')}"
    if node.get("reftype") != "mod" or page not in env.found_docs:
        return None
    return make_refnode(app.builder, node["refdoc"], page, "", content)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write_pages)
    app.connect("doctree-read", link_rooms)
    app.connect("missing-reference", room_of_module)
    app.add_directive("members", Members)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
