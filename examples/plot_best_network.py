"""
Ten runs of gradient descent against the best network there is
==============================================================

Networks of 8 and of 50 neurons on a toy problem with two inputs: each run of stochastic gradient descent
ends somewhere else, and nothing about a run says how good it is. The convex program gives the best value
that any network can have, so every run can be compared with it.
"""

import matplotlib.pyplot as plt
import numpy as np

from cvxnn import ConvexNetRegressor

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 2))
angle = np.arctan2(X[:, 1], X[:, 0])
y = np.sign(np.sin(3 * angle))
alpha = 0.001

best = ConvexNetRegressor(alpha=alpha, hidden_bias=None, fit_intercept=False, tol=1e-8).fit(X, y)
print(best.certificate_)


# %%
# Stochastic gradient descent on ``1/n sum 1/2 (f - y)^2 + alpha/2 (|W|^2 + |a|^2)``, ten samples a step.
def descend(neurons: int, seed: int, epochs: int = 1500, rate: float = 0.02) -> np.ndarray:
    """Return the objective after every epoch."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(2, neurons)) / np.sqrt(2)
    a = rng.normal(size=neurons) / np.sqrt(neurons)
    values = np.empty(epochs)
    for epoch in range(epochs):
        for rows in np.array_split(rng.permutation(len(X)), 4):
            H = X[rows] @ W
            on = H > 0
            residual = (H * on) @ a - y[rows]
            grad_a = (H * on).T @ residual / len(rows) + alpha * a
            grad_W = X[rows].T @ (residual[:, None] * on * a) / len(rows) + alpha * W
            a, W = a - rate * grad_a, W - rate * grad_W
        f = np.maximum(X @ W, 0.0) @ a
        values[epoch] = np.mean(0.5 * (f - y) ** 2) + alpha / 2 * (np.sum(W**2) + np.sum(a**2))
    return values


# %%
# How far above the proven lower bound each run is, in per cent of the bound. Runs of few neurons end in
# different local minima; many neurons help, and still take long. The convex program is at zero.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
bound = best.certificate_.lower_bound
for axis, neurons in zip(axes, (8, 50), strict=True):
    for seed in range(10):
        above = 100 * (descend(neurons, seed) / bound - 1)
        axis.plot(np.arange(1, len(above) + 1), above, color="tab:orange", alpha=0.7, linewidth=1)
        if seed == 0:
            axis.lines[-1].set_label("stochastic gradient descent")
    axis.axhline(0.0, color="tab:blue", label="convex program = proven lower bound")
    axis.set(title=f"{neurons} neurons, ten runs", xlabel="epoch", xscale="log")
    axis.set_ylim(-5, 70)
axes[0].set_ylabel("objective above the bound (%)")
axes[0].legend(frameon=False, loc="upper right")
plt.show()
