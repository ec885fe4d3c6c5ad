"""The order of the gallery: the picture that says what this is about first, special questions last.

Files that are not named follow by name, so adding an example is adding a file.
"""

from __future__ import annotations

from pathlib import Path

ORDER = (
    "plot_best_network.py",
    "plot_wedge.py",
    "plot_activations.py",
    "plot_one_input.py",
    "plot_deep.py",
    "plot_deep_linear.py",
    "plot_cnn.py",
    "plot_convolutions.py",
    "plot_batchnorm.py",
    "plot_max_margin.py",
    "plot_layerwise.py",
    "plot_polynomial.py",
    "plot_quantized.py",
    "plot_kernel.py",
    "plot_wedge_spiral.py",
    "plot_sdp_bound.py",
)


def key(filename: str) -> tuple[int, str]:
    """Return what examples are sorted by.

    Parameters
    ----------
    filename : str
        Of a script in `examples/`.

    Returns
    -------
    tuple of int and str
    """
    name = Path(filename).name
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
