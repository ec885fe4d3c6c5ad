"""Networks with one or two inputs as pictures, and images as text that a page can hold.

One input: curves over a grid. Two: a map, coloured in steps, so that its bands are level lines and files
stay small. Colours are those of Okabe and Ito, which people with any colour vision tell apart; between
two of them a map goes through a light grey. Images are PNG files written here (a header, rows of pixels,
zlib) and stand in the page as data, so that nothing is ever fetched.

References: the PNG specification (ISO/IEC 15948); Okabe and Ito, "Color universal design", 2008.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from scipy.special import expit, softmax

from ..network import Network
from .content import Canvas, Picture
from .subject import Subject

#: Colours of classes, in order; they repeat, and shapes tell them apart too.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6a00", "#6b4c9a")
#: The middle of a map between two colours, and its dark end.
MIDDLE, NIGHT = "#f4f1ea", "#0b3c5d"
#: Points of a curve, pixels of a map along a side, steps of its colours, samples that are drawn.
POINTS, PIXELS, STEPS, DRAWN = 161, 160, 12, 250
#: How far a picture goes beyond the data, as a share of their range.
MARGIN = 0.06


def png(pixels: np.ndarray) -> str:
    """Return an image of shape (height, width, 3), uint8, as the address of a PNG."""
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), chunk(b"IEND", b"")]
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def rgb(colour: str) -> np.ndarray:
    """Return the three numbers of a colour such as "#0072b2"."""
    return np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)], dtype=np.float64)


def between(share: np.ndarray, *colours: str) -> np.ndarray:
    """Return colours at places from 0 (the first) to 1 (the last), shape (..., 3) as uint8."""
    stops = np.array([rgb(colour) for colour in colours])
    place = np.clip(np.asarray(share, dtype=np.float64), 0.0, 1.0) * (len(stops) - 1)
    low = np.minimum(place.astype(int), len(stops) - 2)
    part = (place - low)[..., None]
    return np.round((1.0 - part) * stops[low] + part * stops[low + 1]).astype(np.uint8)


def patch_image(patch: np.ndarray) -> str:
    """Return the weights of a filter (height, width, channels) as an image, channels side by side.

    Orange is positive, blue negative, grey zero.
    """
    size = float(np.max(np.abs(patch))) or 1.0
    panels = [patch[:, :, k] for k in range(patch.shape[2])]
    gap = np.full((patch.shape[0], 1), 0.0)
    flat = np.hstack([part for panel in panels for part in (panel, gap)][:-1])
    return png(between(0.5 + 0.5 * flat / size, PALETTE[0], MIDDLE, PALETTE[1]))


def canvas_of(subject: Subject) -> Canvas | None:
    """Return what pictures of a subject's networks share; None where it has more than two inputs."""
    d = len(subject.columns.entries)
    if d not in (1, 2):
        return None
    values = subject.columns.values(subject.data.X)
    low, high = values.min(axis=0), values.max(axis=0)
    room = np.where(high > low, MARGIN * (high - low), 0.5)
    low, high = low - room, high + room
    n = len(values)
    first = subject.data.y if subject.data.y.ndim == 1 else subject.data.y[:, 0]
    chosen = np.unique(np.linspace(0, n - 1, min(n, DRAWN)).round().astype(int))
    return Canvas(
        names=tuple(column.name for column in subject.columns.entries),
        low=low,
        high=high,
        grid=np.linspace(low[0], high[0], POINTS) if d == 1 else np.zeros(0),
        samples=values[chosen],
        # a map has room for one target
        targets=first[chosen] if d == 2 else subject.data.y[chosen],
        axis=_axis(subject),
        levels=_levels(subject),
    )


def _axis(subject: Subject) -> str:
    """What a curve is of."""
    if subject.classes:
        probable = subject.loss.name == "log_loss"
        if len(subject.targets) > 1:
            return "probability" if probable else "score"
        return f"{'probability' if probable else 'score'} of {subject.targets[0]}"
    return subject.targets[0] if len(subject.targets) == 1 else "prediction"


def _levels(subject: Subject) -> tuple[tuple[str, str], ...]:
    """What the colours of a map stand for."""
    if subject.classes:
        return tuple((PALETTE[k % len(PALETTE)], name) for k, name in enumerate(subject.classes))
    return ((MIDDLE, "low"), (NIGHT, "high"))


def shown(subject: Subject, f: np.ndarray) -> np.ndarray:
    """Return what a curve shows of outputs (n, outputs): probabilities, scores or predictions."""
    if not subject.classes:
        return np.asarray(subject.predict(f), dtype=np.float64).reshape(f.shape)
    if subject.loss.name != "log_loss":
        return f
    return softmax(f, axis=1) if f.shape[1] > 1 else expit(f)


def picture_of(subject: Subject, network: Network, canvas: Canvas) -> Picture:
    """Return a network as curves over one input, or as a map over two."""
    if len(canvas.names) == 1:
        f = subject.output(subject.columns.inputs(canvas.grid[:, None]), network)
        return Picture(curves=tuple(shown(subject, f).T))
    across = np.linspace(canvas.low[0], canvas.high[0], PIXELS)
    down = np.linspace(canvas.high[1], canvas.low[1], PIXELS)
    places = np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)
    f = subject.output(subject.columns.inputs(places), network)
    return Picture(image=png(_coloured(subject, canvas, f).reshape(PIXELS, PIXELS, 3)))


def _coloured(subject: Subject, canvas: Canvas, f: np.ndarray) -> np.ndarray:
    """The colours of outputs (n, outputs), in steps."""
    if not subject.classes:
        low, high = float(np.min(canvas.targets)), float(np.max(canvas.targets))
        share = (shown(subject, f)[:, 0] - low) / ((high - low) or 1.0)
        return between(_stepped(share), MIDDLE, PALETTE[5], PALETTE[0], NIGHT)
    if f.shape[1] == 1:
        # scores without probabilities are squeezed likewise: the border stays at one half
        return between(_pale(_stepped(expit(f[:, 0]))), PALETTE[0], MIDDLE, PALETTE[1])
    sure = softmax(f, axis=1)
    best = np.argmax(sure, axis=1)
    k = f.shape[1]
    strength = _stepped((np.max(sure, axis=1) - 1.0 / k) / (1.0 - 1.0 / k))
    ends = np.array([rgb(PALETTE[c % len(PALETTE)]) for c in range(k)])[best]
    part = (0.25 + 0.4 * strength)[:, None]
    return np.round((1.0 - part) * rgb(MIDDLE) + part * ends).astype(np.uint8)


def _stepped(share: np.ndarray) -> np.ndarray:
    """Round shares of one to the middles of steps."""
    return (np.floor(np.clip(share, 0.0, 1.0 - 1e-9) * STEPS) + 0.5) / STEPS


def _pale(share: np.ndarray) -> np.ndarray:
    """Keep away from the full colours of both ends, on which samples could not be seen."""
    return 0.5 + 0.7 * (share - 0.5)
