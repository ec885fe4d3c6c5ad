"""Links from the source code back to the pages that document it.

`sphinx.ext.viewcode` takes one name for everything in a file. Here a file's public class is documented as
`cvxnn.NAME` and the rest of it as `cvxnn.MODULE.NAME`, on another page, so half of the links would lead
nowhere. This puts each where the object is documented, and takes away those of objects that are not.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

BACK = re.compile(r'<a class="viewcode-back" href="[^"#]*#([^"]*)">\[docs\]</a>')


def mend(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Mend the links of one page of source code before it is written."""
    if not pagename.startswith("_modules/cvxnn/"):
        return
    module = pagename.removeprefix("_modules/").replace("/", ".")
    objects = app.env.domains["py"].objects  # type: ignore[attr-defined]

    def back(match: re.Match[str]) -> str:
        name = match[1].removeprefix(f"{module}.").removeprefix("cvxnn.")
        for full in (f"cvxnn.{name}", f"{module}.{name}"):
            if full in objects:
                uri = relative_uri(f"{pagename}.html", f"{objects[full].docname}.html")
                return match[0].replace(match[0].split('"')[3], f"{uri}#{objects[full].node_id}")
        return ""

    context["body"] = BACK.sub(back, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
