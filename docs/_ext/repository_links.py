"""Links of Markdown pages into the rest of the repository.

Pages are read on the site and in the repository. A link that leaves `docs/` is right there and leads
nowhere here: it becomes a link to the page that shows the same file, or the name of the file.
"""

from __future__ import annotations

import os.path
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: Files outside of the documentation that a page shows.
SHOWN = {"CHANGELOG.md": "changelog.md"}
#: A link, not a picture: pictures are copied from wherever they are.
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")


def site_links(text: str, folder: str) -> str:
    """Return a page with the links that leave the documentation replaced.

    Parameters
    ----------
    text : str
        Markdown.
    folder : str
        Of the page, from the root of the documentation; empty for the root.

    Returns
    -------
    str
    """

    def replace(match: re.Match[str]) -> str:
        aim = os.path.normpath(os.path.join(folder, match[2]))
        if not aim.startswith(".."):
            return match[0]
        aim = aim[3:]
        if aim in SHOWN:
            return f"[{match[1]}]({os.path.relpath(SHOWN[aim], folder or '.')})"
        return match[1] if aim in match[1] else f"{match[1]} (`{aim}`)"

    return LINK.sub(replace, text)


def on_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace the links of a Markdown page as it is read."""
    if str(app.env.doc2path(docname)).endswith(".md"):
        source[0] = site_links(source[0], os.path.dirname(docname))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", on_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
