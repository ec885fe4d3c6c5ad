"""The clock of a run: it takes snapshots of networks and stands still while it does.

Snapshots come at geometrically growing times, and whenever the peer's own objective crosses the target for
the first time, so that the time to the target is exact to one iteration. The peer's objective only decides
*when* to look; what is seen is judged later, from the weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

#: First snapshot in seconds, and the ratio of the times of two snapshots: some 60 in a minute.
FIRST, RATIO = 0.001, 1.2
#: A peer may stop once its objective is below the target by this share.
MARGIN = 1e-6


class Recorder:
    """Takes snapshots of a run.

    Parameters
    ----------
    limit : float
        Seconds that a run may take.
    target : float or None
        Objective at which a peer may stop.
    clock : callable() -> float
        Seconds: of the wall, or ``time.process_time`` where other processes share the core.
    """

    def __init__(
        self,
        limit: float,
        target: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.limit, self.target = limit, -np.inf if target is None else target
        self.clock = clock
        self.snapshots: list[dict[str, np.ndarray]] = []
        self.times: list[float] = []
        self.spent = 0.0
        self.crossed = False
        self.stopped = "finished"
        self.start()

    def start(self) -> None:
        """Start the clock."""
        self.began, self.excluded, self.next = self.clock(), 0.0, FIRST

    def restart(self) -> None:
        """Start the clock again for a solve from scratch with a sharper tolerance.

        A black box shows its network only at its end. Each of its solves counts by its own time, as if
        the user had known the right tolerance; all together may take three times the limit.
        """
        self.spent += self.seconds
        self.start()

    @property
    def seconds(self) -> float:
        """Seconds since the start without those spent here."""
        return self.clock() - self.began - self.excluded

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still during work that belongs to the benchmark and not to the peer."""
        now = self.clock()
        try:
            yield
        finally:
            self.excluded += self.clock() - now

    def due(self, objective: float = np.inf) -> bool:
        """Whether to take a snapshot now, given the peer's own objective."""
        if objective <= self.target and not self.crossed:
            self.crossed = True
            return True
        return self.seconds >= self.next

    def over(self, objective: float = np.inf) -> bool:
        """Whether to stop: time is up, or the target is reached with the margin."""
        if objective <= self.target * (1.0 - MARGIN):
            self.stopped = "target"
        elif self.seconds > self.limit or self.spent + self.seconds > 3.0 * self.limit:
            self.stopped = "limit"
        return self.stopped != "finished"

    def __call__(self, W: Any, b: Any = None, a: Any = None, c: float = 0.0) -> None:
        """Take a snapshot.

        Parameters
        ----------
        W : array of shape (d, m), or (P, d) for a gated problem
        b : array of shape (m,), or None
        a : array of shape (m,), or None for a gated problem
        c : float
        """
        now = self.clock()
        self.times.append(now - self.began - self.excluded)
        shot = {"W": _copy(W), "c": np.array([float(c)])}
        if b is not None:
            shot["b"] = _copy(b)
        if a is not None:
            shot["a"] = _copy(a)
        self.snapshots.append(shot)
        while self.next <= self.times[-1]:
            self.next *= RATIO
        self.excluded += self.clock() - now

    def save(self, path: str) -> None:
        """Write the trajectory; :func:`benchmarks.judge.read` reads it."""
        arrays = {f"{key}_{i}": v for i, shot in enumerate(self.snapshots) for key, v in shot.items()}
        np.savez(path, times=np.array(self.times), **arrays)


def _copy(values: Any) -> np.ndarray:
    return np.array(values, dtype=np.float64, copy=True)
