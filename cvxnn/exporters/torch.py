"""PyTorch: a module to train on, to move to a device, or to build into a larger one.

A plain network becomes ``nn.Sequential(Linear, ReLU, Linear)``, which :func:`cvxnn.certify` reads back;
other layers are the modules of :mod:`cvxnn.torch_layers`. One output is flattened to (n,), so that the
module returns what the network returns. Of a classifier the module returns its outputs, since torch's
losses take logits.

Reference: PyTorch's documentation of ``nn.Module``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from .base import Exporter, Predictor, library, precision


class Torch(Exporter):
    """Modules of :mod:`torch.nn`."""

    name: ClassVar[str] = "torch"
    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".pth")

    def export(self, predictor: Predictor, dtype: Any = "float64") -> Any:
        """Return a ``torch.nn.Sequential`` in evaluation mode, on the CPU.

        Raises
        ------
        ImportError
            If torch is not installed.
        """
        torch = library("torch", "torch")
        from ..torch_layers import module_of

        chosen = precision(dtype)
        plain = predictor.prepared(chosen)
        return module_of(plain.layers, getattr(torch, chosen.name), plain.link).eval()

    def write(self, predictor: Predictor, path: Path, dtype: Any = "float64") -> list[str]:
        """Write the module's state, which torch reads without running code."""
        module = self.export(predictor, dtype)
        library("torch", "torch").save(module.state_dict(), path)
        return [
            f"state of this torch module, {precision(dtype).name}:",
            *(f"  {line}" for line in repr(module).splitlines()),
            "read it with module.load_state_dict(torch.load(FILE, weights_only=True)); "
            "cvxnn.Network.load(MODEL)[0].to_torch() is the module",
        ]
