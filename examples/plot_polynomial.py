"""
Polynomial networks on handwritten digits
=========================================

With the activation ``0.09 t^2 + 0.5 t + 0.47`` (much like a ReLU) and neurons of norm one, training is a
convex program whose size does not depend on the width, and the best neuron for a dual variable is known
exactly. So the optimum is certified, with 64 pixels, in a second. Stochastic gradient descent on the same
objective is compared with it: ten runs, odd digits against even ones.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from cvxnn import ConvexNetClassifier
from cvxnn.architectures.polynomial import Polynomial

images, digits = load_digits(return_X_y=True)
X = (images - images.mean(axis=0)) / 16
y = np.where(digits % 2, 1.0, -1.0)
train, test = np.arange(0, len(X), 2), np.arange(1, len(X), 2)
alpha = 1e-3

best = ConvexNetClassifier(
    alpha=alpha, architecture=Polynomial(hidden_bias=None), loss="squared_hinge", fit_intercept=False
).fit(X[train], y[train])
print(best.certificate_)
print(f"{best.score(X[test], y[test]):.1%} of the other digits are right")


# %% Descent on ``1/n sum 1/2 max(0, 1 - y f)^2 + alpha |a|_1``; after every step neurons are scaled back
# to norm one.
def descend(neurons: int, seed: int, epochs: int = 100, rate: float = 0.2) -> np.ndarray:
    """Return the objective after every epoch."""
    rng = np.random.default_rng(seed)
    data, target = X[train], y[train]
    U = rng.normal(size=(64, neurons))
    U /= np.linalg.norm(U, axis=0)
    a = 0.1 * rng.normal(size=neurons)
    values = np.empty(epochs)
    for epoch in range(epochs):
        step = rate / (1 + 0.05 * epoch)
        for rows in np.array_split(rng.permutation(len(data)), len(data) // 30):
            T, label = data[rows] @ U, target[rows]
            H = (0.09 * T + 0.5) * T + 0.47
            slope = -label * np.maximum(1.0 - label * (H @ a), 0.0) / len(rows)
            pull = data[rows].T @ (slope[:, None] * (0.18 * T + 0.5) * a)
            a = a - step * (H.T @ slope + alpha * np.sign(a))
            U = U - 10 * step * pull
            U /= np.linalg.norm(U, axis=0)
        T = data @ U
        f = ((0.09 * T + 0.5) * T + 0.47) @ a
        values[epoch] = np.mean(0.5 * np.maximum(1.0 - target * f, 0.0) ** 2) + alpha * np.sum(np.abs(a))
    return values


runs = [descend(30, seed) for seed in range(10)]

# %%
# To the right the six neurons with the largest output weights, as images.
figure = plt.figure(figsize=(9, 3.8), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=(1.3, 1))
axis = left.subplots()
for k, run in enumerate(runs):
    label = "stochastic gradient descent" if k == 0 else None
    axis.plot(np.arange(1, len(run) + 1), run, color="tab:orange", alpha=0.6, linewidth=1, label=label)
axis.axhline(best.certificate_.objective, color="tab:blue", label="convex program: the optimum")
axis.axhline(best.certificate_.lower_bound, color="black", linestyle=":", label="proven lower bound")
axis.set(xlabel="epoch", ylabel="objective per sample", yscale="log", title="30 neurons, ten runs")
axis.legend(frameon=False)
first, _, last = best.network_.layers
amounts = last.weight[:, 0]
for axis, j in zip(right.subplots(2, 3).ravel(), np.argsort(-np.abs(amounts)), strict=False):
    size = np.max(np.abs(first.weight))
    axis.imshow(first.weight[:, j].reshape(8, 8), cmap="PuOr", vmin=-size, vmax=size)
    axis.set(xticks=[], yticks=[], title=f"weight {amounts[j]:+.2f}")
right.suptitle("neurons of norm one")
plt.show()
