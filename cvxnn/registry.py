"""Open folders: a file in the folder is a registration.

The packages `architectures`, `losses` and `solvers` each hold one file per member. Their
``__init__`` calls :func:`discover`, so adding a member is adding a file and nothing else.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")
#: What was discovered, by package and base class: for members that are made of others, which may not
#: import each other.
_FOUND: dict[tuple[str, type], dict[str, type]] = {}


def discover(
    package: str, path: list[str], base: type[T], but: type[T] | None = None
) -> dict[str, type[T]]:
    """Import every module of a package and collect the concrete subclasses of `base` by name.

    Parameters
    ----------
    package : str
        Dotted name of the package.
    path : list of str
        The package's ``__path__``.
    base : type
        Abstract class whose concrete subclasses, each with a class attribute ``name``, are members.
    but : type or None
        Subclasses of this class are left out: they have a registry of their own.

    Returns
    -------
    dict of str to type, sorted by name

    Raises
    ------
    ValueError
        If two members carry the same name.
    """
    found: dict[str, type[T]] = {}
    for info in pkgutil.iter_modules(path):
        module: ModuleType = importlib.import_module(f"{package}.{info.name}")
        for member in vars(module).values():
            if not (isinstance(member, type) and issubclass(member, base)):
                continue
            if inspect.isabstract(member) or member.__module__ != module.__name__:
                continue
            if but is not None and issubclass(member, but):
                continue
            name = member.name  # type: ignore[attr-defined]
            if name in found:
                raise ValueError(f"two members of {package} are called {name!r}: rename one")
            found[name] = member
    _FOUND[package, base] = dict(sorted(found.items()))
    return dict(sorted(found.items()))


def members(package: str, base: type[T]) -> dict[str, type[T]]:
    """Return what :func:`discover` found for a base class in a package, by name."""
    return dict(_FOUND[package, base])
