"""Adam on the weights of a network of 500 neurons: torch, full batch, float64.

It minimises ``(1/n) sum loss + alpha/2 (|W|^2 + |a|^2)``; the gradient is written by hand into buffers, a
third faster than autograd. As Adam oscillates, the best network so far by its own objective is recorded.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from . import Peer, Task
from .arithmetic import first_network, loss_and_slope

WIDTH = 500


def _solve(task: Task, record: Any, rate: float) -> dict[str, Any]:
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    W, a = map(torch.from_numpy, first_network(task.X, task.y, WIDTH, task.seed))
    X, y = torch.from_numpy(task.X), task.y
    T, H, M = (torch.empty((len(y), WIDTH), dtype=torch.float64) for _ in range(3))
    W.grad, a.grad = torch.zeros_like(W), torch.zeros_like(a)
    adam = torch.optim.Adam([W, a], lr=rate)
    best, kept, steps = np.inf, (W.clone(), a.clone()), 0
    with torch.no_grad():
        while True:
            torch.mm(X, W, out=T)
            torch.clamp(T, min=0.0, out=H)
            torch.sign(H, out=M)
            loss, slope = loss_and_slope(task.loss, (H @ a).numpy(), y)
            value = loss + task.alpha * float(torch.linalg.vector_norm(W, dim=0) @ a.abs())
            if value < best:
                best = value
                kept[0].copy_(W)
                kept[1].copy_(a)
            if record.due(best):
                record(kept[0].numpy(), None, kept[1].numpy())
            if record.over(best):
                break
            s = torch.from_numpy(slope)
            torch.mm((X * s[:, None]).T, M, out=W.grad)
            W.grad.mul_(a).add_(W, alpha=task.alpha)
            torch.mv(H.T, s, out=a.grad)
            a.grad.add_(a, alpha=task.alpha)
            adam.step()
            steps += 1
    record(kept[0].numpy(), None, kept[1].numpy())
    return {"iterations": steps}


def _of_rate(rate: float) -> Peer:
    return Peer(f"adam-{rate:g}", "cvxnn", "relu", lambda task, record: _solve(task, record, rate))


PEERS = [_of_rate(rate) for rate in (1e-2, 1e-3)]
