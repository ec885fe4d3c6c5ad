"""The rule of direction: a file imports only from floors below its own, and there are no circles."""

from __future__ import annotations

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "cvxnn"
FOLDERS = ("losses", "architectures", "solvers", "exporters", "tasks")

#: Floors from the ground up; modules that share a floor may import each other (circles apart).
FLOORS = [
    {
        "arrays",
        "caller",
        "layer_shapes",
        "layers",
        "notebook",
        "parameters",
        "patches",
        "registry",
        "routing",
        "version",
        "window_layers",
    },
    # exporters know the layers alone, so that networks and estimators can offer them as methods
    {
        "losses",
        "exporters",
        "network",
        "torch_layers",
        "constraints",
        "decomposition",
        "penalties",
        "feature_penalties",
        "units",
    },
    {
        "operators",
        "arrangement",
        "design",
        "wedge_factors",
        "descent",
        "polytope",
        "pricing",
        "walks",
        "bounds",
        "interior_loss",
        "explanation",
        "hyperplanes",
        "local_linear",
    },
    {"geometric", "vector_operators", "vector_descent", "vector_pricing", "vector_bounds"},
    {"program"},
    {"certificate", "face_newton"},
    {"oracles", "solvers", "frozen_layers", "conv_stage"},
    {
        "conv_maps",
        "norm_oracles",
        "normalised_cells",
        "planar",
        "sharpen",
        "vector_growth",
        "wedge_search",
        "whitening",
    },
    {
        "normalised_program",
        "spline",
        "vector_batches",
        "vector_exploration",
        "vector_newton",
        "vector_oracles",
        "vector_smoothing",
        "wedge_oracles",
    },
    {"lifted_oracles"},
    {"architectures", "families"},
    {"train"},
    {
        "active_neurons",
        "copositive",
        "low_rank",
        "margin",
        "optimal_set",
        "paths",
        "reading",
        "selection",
        "threshold",
    },
    {"live", "rounds"},
    {"estimator_base"},
    {"estimators"},
    {
        "audit",
        "conv_layerwise",
        "hidden_features",
        "max_margin",
        "path_estimator",
        "path_problem",
        "selection_estimator",
        "tables",
    },
    {"encoding", "family_options", "penalty_options", "class_weight_options", "models", "pipelines"},
    {"reporting"},
]
#: Abstract bases of some members of an open folder, besides its base.
FAMILIES = {
    "losses.piecewise",
    "architectures.circular",
    "architectures.convolutional",
    "architectures.convolutional_head",
    "architectures.hidden",
    "architectures.linear_family",
    "architectures.programs",
    "architectures.rectified",
    "architectures.skip",
    "architectures.spectrahedral",
    "architectures.stages",
    "architectures.threshold_skip",
    "architectures.threshold_units",
    "architectures.two_layer",
    "architectures.vector_large",
    "architectures.vector_rectified",
    "architectures.vector_skip",
    "architectures.whitened",
    "exporters.c_kernels",
    "exporters.onnx_graph",
}
#: Members that others are made of: a batch-normalised network is a plain one on whitened data, and a family
#: of one output knows its sister of several; first-order steps bring another solver near.
PLAIN = {
    "architectures.relu",
    "architectures.vector_gated",
    "architectures.vector_relu",
    "architectures.vector_threshold",
    "solvers.fista",
}
#: Libraries that only some people have: imported where they are used, never on import of cvxnn.
OPTIONAL = {
    "torch",
    "cvxpy",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "skl2onnx",
    "pandas",
    "polars",
    "pyarrow",
    "dask",
}
#: Modules of torch, which only `exporters.torch` imports, and only when it is called.
ABOUT = {"torch_layers": {"torch"}}
#: Files that are about such a library, or that a user asks for by name.
TOP = {"cli", "cli_export", "cli_report", "console", "demo", "plot", "displays"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str, *, top_level_only: bool = False) -> tuple[set[str], set[str]]:
    """The modules of this package, and the outside packages, that a file imports anywhere in it."""
    path = FILES[name]
    tree = ast.parse(path.read_text())
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [part for part in package if part]
    inside, outside = set(), set()
    for node in top_level(tree) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            stem = f"cvxnn.{stem}".strip(".") if node.level else stem
            full = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in full:
            if target.split(".")[0] == "cvxnn":
                inside.add(nearest(target.removeprefix("cvxnn").strip(".")))
            else:
                outside.add(target.split(".")[0])
    return inside - {name}, outside


def top_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import, blocks included, functions not."""
    found, queue = [], list(tree.body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        found.append(node)
        queue += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


def nearest(target: str) -> str:
    """The longest prefix of a dotted name that is a file of this package."""
    while target and target not in FILES:
        target = target.rpartition(".")[0]
    return target


GRAPH = {name: imports(name)[0] for name in FILES}
for folder in FOLDERS:
    if folder in FILES:  # an open folder imports its members when it is imported
        GRAPH[folder] |= {name for name in FILES if name.startswith(f"{folder}.")}


def room(name: str) -> str:
    """The module or folder a file belongs to; parts of one module (bounds_cones) belong to it."""
    head = name.split(".")[0]
    return "bounds" if head.startswith("bounds_") else head


def level(name: str, known: dict[str, int]) -> int:
    """The length of the longest path of imports below a file."""
    if name not in known:
        known[name] = 1 + max((level(below, known) for below in GRAPH[name]), default=-1)
    return known[name]


def uses(name: str) -> set[str]:
    """Everything a file imports, directly or through others."""
    seen, queue = set(), [name]
    while queue:
        for below in GRAPH[queue.pop()]:
            if below not in seen:
                seen.add(below)
                queue.append(below)
    return seen


def test_the_reader_of_imports_sees_them():
    assert GRAPH["train"] >= {"architectures", "certificate", "network", "program", "solvers"}
    assert "arrays" in GRAPH["losses.base"] and "registry" in GRAPH["losses"]
    assert "losses.base" in GRAPH["losses.log_loss"]
    assert imports("solvers.conic")[1] >= {"numpy", "clarabel"}
    assert "clarabel" not in imports("solvers.conic", top_level_only=True)[1]
    assert len(FILES) > 25


def test_no_circles():
    tuple(TopologicalSorter(GRAPH).static_order())
    rooms = {}
    for name in FILES:
        if name:
            rooms.setdefault(room(name), set()).update({room(b) for b in GRAPH[name] if b} - {room(name)})
    tuple(TopologicalSorter(rooms).static_order())


def test_levels():
    known: dict[str, int] = {}
    order = ["arrays", "losses.base", "losses", "program", "certificate", "oracles", "architectures.relu"]
    order += ["architectures", "train"]
    for name in FILES:
        level(name, known)
    assert known["arrays"] == known["registry"] == 0
    levels = [known[name] for name in order]
    assert levels == sorted(set(levels)), dict(zip(order, levels, strict=True))
    assert max(known.values()) == max(known[name] for name in known if room(name) in {*TOP, "", "testing"})


def floor_of(name: str) -> int:
    """The floor of a file: the one in the list, else the highest of what it imports."""
    listed = [k for k, floor in enumerate(FLOORS) if room(name) in floor]
    return listed[0] if listed else max((floor_of(below) for below in GRAPH[name]), default=0)


def test_a_file_imports_from_floors_below_its_own():
    listed = {name for floor in FLOORS for name in floor}
    for name in FILES:
        if room(name) not in listed:
            continue
        for below in GRAPH[name]:
            assert below, f"{name} imports the package itself, which imports everything"
            assert room(below) not in TOP | {"testing"}, f"{name} imports {below}"
            assert floor_of(below) <= floor_of(name), f"{name} imports {below} from a higher floor"


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("solvers", {"architectures", "certificate", "oracles", "bounds", "pricing", "network", "train"}),
        ("architectures", {"solvers", "train", "estimators", "audit"}),
        ("losses", {"penalties", "operators", "constraints", "program", "network"}),
        ("certificate", {"solvers", "architectures", "oracles", "operators", "train", "arrangement"}),
        ("oracles", {"solvers", "architectures", "train"}),
        ("program", {"solvers", "architectures", "certificate", "network", "arrangement"}),
        ("bounds", {"program", "certificate", "solvers", "architectures", "oracles"}),
        ("estimators", {"solvers", "audit"}),
        ("audit", {"solvers"}),
        ("exporters", {"network", "losses", "program", "architectures", "estimators", "train"}),
    ],
)
def test_who_does_not_import_whom(folder, forbidden):
    members = [name for name in FILES if room(name) == folder]
    assert members
    for name in members:
        # a solver may not reach an architecture through a third file either
        reached = {room(b) for b in GRAPH[name]}
        assert not reached & forbidden, f"{name} imports {reached & forbidden}"
        if folder in ("solvers", "losses", "program", "certificate", "bounds"):
            indirect = {room(b) for b in uses(name)} & forbidden - {folder}
            direct_ok = indirect - ({"operators"} if folder == "certificate" else set())
            assert not direct_ok, f"{name} reaches {direct_ok} through other files"


def test_members_of_an_open_folder_do_not_import_each_other():
    for name in FILES:
        head, _, tail = name.partition(".")
        if head in FOLDERS and tail and tail != "base":
            for below in GRAPH[name]:
                alone = below.split(".")[0] != head or below in {f"{head}.base", *FAMILIES, *PLAIN}
                assert alone, f"{name} imports its sibling {below}"


def test_only_training_knows_architectures_and_solvers():
    both = {
        name
        for name in FILES
        if {"architectures", "solvers"} <= {room(b) for b in GRAPH[name]}
        and room(name) not in ("testing", *TOP)
    }
    assert both == {"train"}


def test_nothing_below_training_imports_it():
    below = {name for floor in FLOORS[:10] for name in floor}
    for name in FILES:
        if room(name) in below:
            assert not {room(b) for b in uses(name)} & {"train", "estimators", "audit", "cli", "testing"}


def test_optional_libraries_are_imported_where_they_are_used():
    for name in FILES:
        outside = imports(name, top_level_only=True)[1]
        if room(name) not in TOP:
            outside = outside & OPTIONAL - ABOUT.get(name, set())
            assert not outside, f"{name} imports {outside} on import of cvxnn"


def test_modules_about_a_library_are_imported_where_it_is_used():
    for name, about in ABOUT.items():
        assert about <= imports(name, top_level_only=True)[1]
        users = {user for user in FILES if name in GRAPH[user]}
        assert users == {"exporters.torch"}
        assert name not in imports("exporters.torch", top_level_only=True)[0]


def test_importing_the_package_loads_no_optional_library():
    import subprocess

    code = f"import sys, cvxnn; print(sorted(set(sys.modules) & {OPTIONAL | {'clarabel', 'typer'}!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(run.stdout)) - {"pandas", "polars", "pyarrow"}
    assert not loaded


def test_no_rooms_without_a_subject():
    vague = {"utils", "helpers", "common", "manager", "private", "misc"}
    assert not {part for name in FILES for part in name.split(".")} & vague


def test_the_map_of_the_house_has_every_room():
    text = (PACKAGE.parent / "docs" / "house.md").read_text()
    named = set(re.findall(r"[a-z_]+", text))
    missing = {name for name in FILES if name and "." not in name} - named
    assert not missing, f"say in docs/house.md what is in {sorted(missing)}"
