"""C: one file of C99 that needs no library, for microcontrollers and for programs without Python.

Weights are static constants, in double or float; a function computes the outputs of one sample, for a
classifier two more the class and the probabilities. Every kind of layer that occurs has a loop of its
own, so code is small and its size does not grow with depth. The functions allocate nothing and keep no
state; the space they need on the stack is said at the top of the file, which also says what the inputs
are. Compiled with ``-DPREDICT_MAIN`` the file is a program that reads samples and prints predictions.

Reference: ISO/IEC 9899:1999.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..layers import (
    LAYERS,
    Absolute,
    Affine,
    Conv,
    Gated,
    GatedConv,
    LeakyReLU,
    Polynomial,
    Pool,
    Product,
    ReLU,
    SkipLeakyReLU,
    SkipReLU,
    SkipThreshold,
    Threshold,
)
from ..version import __version__
from ..window_layers import POOLINGS
from .base import Exporter, Predictor, labels_of, precision
from .c_kernels import BEFORE, CHOICE, KERNELS, MAIN, PROBABILITIES

#: Words of C99 that no function can be called, with names that the file uses around calls of it.
WORDS = (
    "auto break case char const continue default do double else enum extern float for goto if inline int "
    "long register restrict return short signed sizeof static struct switch typedef union unsigned void "
    "volatile while main exp expf x y p best most sum NULL EOF FILE stdin stdout stderr feof printf scanf"
)
RESERVED = set(WORDS.split())
#: How many numbers stand on a line of weights.
A_LINE = 6
#: Fields of layers with weights.
PLAIN, GATES = ("weight", "bias"), ("gates", "gate_bias")


class C(Exporter):
    """Source text in C99."""

    name: ClassVar[str] = "c"
    suffixes: ClassVar[tuple[str, ...]] = (".c",)

    def export(self, predictor: Predictor, dtype: Any = "float64", *, function: str = "predict") -> str:
        """Return the text of one C file.

        Raises
        ------
        ValueError
            If the function's name is none in C, or weights are beyond the precision.
        """
        if not re.fullmatch(r"[A-Za-z_]\w*", function, flags=re.ASCII) or function in RESERVED:
            raise ValueError(f"function={function!r} is no name of a function in C: pass 'predict', say")
        chosen = precision(dtype)
        return _Source(predictor.prepared(chosen), chosen, function).text()

    def write(self, predictor: Predictor, path: Path, dtype: Any = "float64") -> list[str]:
        """Write the file."""
        text = self.export(predictor, dtype)
        path.write_text(text, encoding="utf-8")
        kind, maths = "double" if precision(dtype) == np.float64 else "float", "#include <math.h>" in text
        return [f"C99, {kind}: compile it with cc -O2 -std=c99{' and link with -lm' if maths else ''}"]


class _Source:
    """The parts of one C file."""

    def __init__(self, predictor: Predictor, dtype: np.dtype[Any], function: str) -> None:
        self.predictor, self.dtype, self.function = predictor, dtype, function
        self.labels = [] if predictor.classes is None else labels_of(predictor.classes).tolist()
        self.words = {"function": function, "FUNCTION": function.upper()}
        self.words |= {"INPUTS": str(predictor.inputs), "CLASSES": str(len(self.labels))}
        if dtype == np.float64:
            self.words |= {"real": "double", "exp": "exp", "SCAN": "lf", "DIGITS": ".17g"}
        else:
            self.words |= {"real": "float", "exp": "expf", "SCAN": "f", "DIGITS": ".9g"}
        self.arrays: list[str] = []
        self.kernels: list[str] = []

    def named(self, template: str) -> str:
        """A template in the file's own words; data never pass through here."""
        return re.sub(rf"\b({'|'.join(self.words)})(?=\b|_)", lambda found: self.words[found[1]], template)

    def text(self) -> str:
        """The whole file."""
        calls, buffers = self._calls()
        maths = self.predictor.probabilities or self.predictor.link == "exp"
        needed = [name for kernel in self.kernels for name in (*BEFORE.get(kernel, ()), kernel)]
        parts = [
            self._head(buffers, maths),
            *(["#include <math.h>\n"] if maths else []),
            self._prototypes(),
            *(self.named(KERNELS[name]) for name in dict.fromkeys(needed)),
            *self.arrays,
            *self._functions(calls),
            self.named(MAIN).replace("@show", self.named(self._show())),
        ]
        return "\n".join(parts)

    def _calls(self) -> tuple[list[str], int]:
        """The lines that compute all layers, and how many numbers their buffers hold."""
        layers, widths = self.predictor.layers, self.predictor.widths()
        calls, here, sizes = [], "x", {"a": 0, "b": 0}
        for k, layer in enumerate(layers):
            kernel, arguments, in_place = self._kernel(k, layer, *widths[k : k + 2])
            self.kernels.append(kernel)
            there = here if in_place else "y" if k + 1 == len(layers) else "b" if here == "a" else "a"
            data = [here] if in_place else [here, there]
            calls.append(f"    {self.function}_{kernel}({', '.join([*arguments, *data])});")
            if there in sizes:
                sizes[there] = max(sizes[there], widths[k + 1])
            here = there
        buffers = [f"{name}[{size}]" for name, size in sizes.items() if size]
        declared = [self.named(f"    real {', '.join(buffers)};")] if buffers else []
        return [*declared, *calls], sum(sizes.values())

    def _kernel(self, k: int, layer: Any, before: int, after: int) -> tuple[str, list[str], bool]:
        """The kernel of a layer, its arguments but the data, and whether it works in place."""
        match layer:
            case Affine():
                return "affine", [str(before), str(after), *self._weights(k, layer, PLAIN)], False
            case Gated():
                return "gated", [str(before), str(after), *self._weights(k, layer, GATES + PLAIN)], False
            case Conv():
                filters = str(layer.weight.shape[1])
                return "conv", [self._geometry(k, layer), filters, *self._weights(k, layer, PLAIN)], False
            case GatedConv():
                filters, names = str(layer.weight.shape[1]), self._weights(k, layer, GATES + PLAIN)
                return "gated_conv", [self._geometry(k, layer), filters, *names], False
            case Pool():
                return "pool", [self._geometry(k, layer), str(POOLINGS.index(layer.name))], False
            case LeakyReLU():
                return "leaky_relu", [str(before), self._literal(layer.slope)], True
            case Polynomial():
                parts = (layer.quadratic, layer.linear, layer.constant)
                return "polynomial", [str(before), *map(self._literal, parts)], True
            case SkipLeakyReLU():
                return "leaky_relu", [str(before - layer.passed), self._literal(layer.slope)], True
            case SkipThreshold():
                return "threshold", [str(before - layer.passed)], True
            case SkipReLU():
                return "relu", [str(before - layer.passed)], True
            case ReLU() | Absolute() | Threshold() | Product():
                return type(layer).__name__.lower(), [str(after)], True
        raise ValueError(f"there is no C for {type(layer).__name__} layers: {list(LAYERS)} are known")

    def _weights(self, k: int, layer: Any, names: tuple[str, ...]) -> list[str]:
        """Define the arrays of a layer, matrices with a row for each unit, and return their names."""
        found = []
        for field in names:
            values = np.ravel(getattr(layer, field).T)
            rows = [
                "    " + ", ".join(map(self._literal, values[at : at + A_LINE]))
                for at in range(0, len(values), A_LINE)
            ]
            found.append(f"{self.function}_{field}_{k}")
            array = f"{self.words['real']} {found[-1]}[{len(values)}]"
            self.arrays.append(f"static const {array} = {{\n" + ",\n".join(rows) + "\n};\n")
        return found

    def _geometry(self, k: int, layer: Conv | GatedConv | Pool) -> str:
        """Define the windows of a layer and return their address."""
        w, name = layer.windows, f"{self.function}_windows_{k}"
        numbers = (*w.shape, *w.kernel, *w.stride, *w.padding, *w.out, int(w.circular))
        listed = ", ".join(map(str, numbers))
        self.arrays.append(f"static const {self.function}_windows {name} = {{{listed}}};\n")
        return f"&{name}"

    def _literal(self, value: Any) -> str:
        """The shortest decimal that reads back as the same number."""
        if self.dtype == np.float64:
            return repr(float(np.ravel(value)[0]))
        return str(np.float32(np.ravel(value)[0])) + "f"

    def _prototypes(self) -> str:
        outputs = self.predictor.outputs
        found = [f"void function(const real x[INPUTS], real y[{outputs}]);"]
        if self.labels:
            found += [
                f"extern const {self._label_type()} function_classes[CLASSES];",
                "int function_class(const real x[INPUTS]);",
            ]
        if self.predictor.probabilities:
            found.append("void function_proba(const real x[INPUTS], real p[CLASSES]);")
        return self.named("\n".join(found) + "\n")

    def _label_type(self) -> str:
        return "char *const" if isinstance(self.labels[0], str) else "long long"

    def _functions(self, calls: list[str]) -> list[str]:
        """The functions that a user calls."""
        outputs = self.predictor.outputs
        first = self.named(f"void function(const real x[INPUTS], real y[{outputs}])\n{{")
        link = [self.named(f"    for (int j = 0; j < {outputs}; ++j) y[j] = exp(y[j]);")]
        body = [first, *calls, *(link if self.predictor.link == "exp" else []), "}\n"]
        found = ["\n".join(body)]
        if self.labels:
            listed = ", ".join(_quoted(v) if isinstance(v, str) else _integer(v) for v in self.labels)
            begin = self.named(f"const {self._label_type()} function_classes[CLASSES] = ")
            kind = "two" if outputs == 1 else "several"
            found += [f"{begin}{{{listed}}};\n", self.named(CHOICE[kind])]
            if self.predictor.probabilities:
                found.append(self.named(PROBABILITIES[kind]))
        return found

    def _show(self) -> str:
        """What the program prints for a sample: the label of a classifier, then the outputs."""
        outputs = self.predictor.outputs
        lines = [f"        real y[{outputs}];", "        function(x, y);"]
        if self.labels:
            shown = "%s" if isinstance(self.labels[0], str) else "%lld"
            lines.append(f'        printf("{shown} ", function_classes[function_class(x)]);')
        return "\n".join(
            [
                *lines,
                f"        for (int j = 0; j < {outputs}; ++j)",
                f"            printf(\"%DIGITS%c\", (double)y[j], j == {outputs - 1} ? '\\n' : ' ');",
            ]
        )

    def _head(self, buffers: int, maths: bool) -> str:
        """The comment that says what the file is."""
        p, name = self.predictor, self.function
        family = f" ({p.architecture})" if p.architecture else ""
        said = [f"{name}: the outputs y of a sample x."]
        if self.labels:
            rule = "the second if y[0] > 0" if p.outputs == 1 else "that of the largest output"
            said.append(f"{name}_class: the number of its class in {name}_classes, {rule}.")
        if p.probabilities:
            said.append(f"{name}_proba: the probability of each class.")
        lines = [
            f"A neural network{family}: {p.chain}. Written by cvxnn {__version__}.",
            "",
            *said,
            "",
            f"C99{', with exp of the standard library (-lm)' if maths else ', without any library'}. "
            f"No state; {buffers * self.dtype.itemsize} bytes of buffers on the stack.",
            f"With -D{name.upper()}_MAIN: a program that reads samples of {p.inputs} numbers from stdin.",
        ]
        if p.columns:
            lines += ["", "Inputs:", *(f"  x[{i}]  {column}" for i, column in enumerate(p.columns))]
        return "/*\n" + "".join(f" * {_comment(line)}".rstrip() + "\n" for line in lines) + " */\n"


def _comment(text: str) -> str:
    """Text that may stand in a comment."""
    text = " ".join(text.split()) if "\n" in text else text
    # backslashes first: they become slashes, which may not end the comment either
    text = text.replace("\\", "/").replace("*/", "* /").replace("/*", "/ *")
    return re.sub(r"\?(?=\?)", "? ", text)


def _integer(value: int) -> str:
    """An integer of C; the least has no literal of its own, since its sign is no part of one."""
    return f"{value}LL" if value > -(2**63) else f"({value + 1}LL - 1)"


def _quoted(text: str) -> str:
    """A string of C, with all but plain characters as octal bytes."""
    plain = set(range(32, 127)) - {ord(c) for c in '"\\?'}
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'
