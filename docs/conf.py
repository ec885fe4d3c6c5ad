"""The site: prose in Markdown, API by numpydoc, pictures by sphinx-gallery, mathematics without a network.

`make docs` builds it with warnings as errors, then follows every link (`check_links.py`). Pages of
architectures, losses, solvers and modules are written by `_ext/house_pages.py` from the registries.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import cvxnn  # noqa: E402

project = "cvxnn"
author = "The cvxnn developers"
copyright = "The cvxnn developers, BSD 3-Clause"
version = release = cvxnn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "sphinx_copybutton",
    "sphinx_design",
    "formulas",
    "house_pages",
    "source_links",
    "repository_links",
]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "_ext", "_static", "auto_examples/*.ipynb", "auto_examples/*.json"]
templates_path = ["_templates"]
nitpicky = True
# Other libraries are named, not linked: their inventories would have to be downloaded.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|scipy|sklearn|torch|onnx|onnxruntime|matplotlib|pandas|time)(\..*)?")
]
default_role = "literal"
smartquotes = False  # names and values are quoted with the quotes that Python takes
highlight_language = "text"
add_module_names = False
python_maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"
copybutton_selector = "div.highlight-python pre, div.highlight-ipython3 pre, div.highlight-console pre"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

# MathJax as one file from a package: the site opens without a network.
_mathjax = importlib.util.find_spec("sphinx-mathjax-offline")
if _mathjax is None or _mathjax.origin is None:
    raise ImportError("sphinx-mathjax-offline is missing: pip install 'cvxnn[docs]'")
html_static_path = ["_static", str(Path(_mathjax.origin).parent / "static" / "mathjax" / "tex-svg.js")]
mathjax_path = "tex-svg.js"

autosummary_generate = True
autosummary_ignore_module_all = False
# One module is made of torch's modules; the site is built without torch too.
autodoc_mock_imports = [] if importlib.util.find_spec("torch") else ["torch"]
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# What is public says its parameters (PR), what it returns (RT) and what it is (GL08); methods of
# programs and layers say so in one line with the shapes.
numpydoc_validation_checks = {"GL08", "PR01", "PR02", "PR03", "RT01", "RT02"}
numpydoc_validation_exclude = {r"cvxnn\.(program|layers\.\w+)\.", r"cvxnn\.OptimalSet$"}
viewcode_line_numbers = True

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_.*\.py$",
    "within_subsection_order": "gallery_order.key",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("cvxnn",),
    "reference_url": {"cvxnn": None},
    "remove_config_comments": True,
    "image_srcset": ["2x"],
    "thumbnail_size": (520, 240),
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "download_all_examples": False,
    "abort_on_example_error": True,
    "matplotlib_animations": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "cvxnn"
html_css_files = ["site.css"]
html_favicon = "_static/mark.svg"
html_show_sourcelink = False
html_theme_options: dict[str, Any] = {
    "logo": {"text": "cvxnn", "image_light": "_static/mark.svg", "image_dark": "_static/mark.svg"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "show_prev_next": True,
}
html_sidebars = {"index": [], "benchmarks": []}

os.environ.setdefault("MPLBACKEND", "Agg")


def skip_members_of_others(
    app: Any, what: str, name: str, thing: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what a class has from scikit-learn: it is documented there."""
    owner = getattr(thing, "__module__", None) or getattr(getattr(thing, "fget", None), "__module__", None)
    return True if owner and not owner.startswith("cvxnn") else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", skip_members_of_others)
