"""
What a third layer is worth
===========================

On one input a two-layer network pays for every kink that its function has: a step has two. A third layer
clips, and a step costs its slope once. Both optima are known exactly, so what depth is worth is a number,
not an impression from one training run.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from cvxnn import ConvexNetRegressor
from cvxnn.architectures.deep_narrow import NarrowReLU
from cvxnn.architectures.deep_path import PathReLU
from cvxnn.architectures.deep_relu import DeepReLU

# %%
# A staircase, fitted by sums of chains of single neurons with free biases. From three layers on more depth
# adds nothing: a chain of any depth is one ramp, clipped at both ends.
rng = np.random.default_rng(0)
x = np.sort(rng.uniform(0.0, 6.0, 60))
y = np.floor(x / 2.0) + 0.08 * rng.normal(size=len(x))
chains = {
    depth: ConvexNetRegressor(0.002, architecture=NarrowReLU(depth), tol=1e-8).fit(x[:, None], y)
    for depth in (2, 3, 5)
}
for depth, model in chains.items():
    print(f"{depth} layers: {model.certificate_}")

# %%
# Parallel networks whose branches have wide hidden layers, on ten patients of the diabetes data: blood
# pressure against the progress of the disease. Three layers are never worse than two at the same alpha, and
# both optima are proven here. Where they agree, clipping does not pay. A penalty of paths instead of layers
# charges no branch more and many less, so its optimum is lower still; it depends on the width of branches.
data = load_diabetes()
rows = slice(20, 30)
pressure = data.data[rows, 3][:, None] / np.std(data.data[:, 3])
progress = (data.target[rows] - np.mean(data.target)) / np.std(data.target)
alphas = np.geomspace(0.006, 0.1, 5)
wide = {"two layers": "relu", "three layers": DeepReLU()}
proven = {
    name: [
        ConvexNetRegressor(alpha, architecture=family, tol=1e-7).fit(pressure, progress).certificate_
        for alpha in alphas
    ]
    for name, family in wide.items()
}
paths = [
    ConvexNetRegressor(alpha, architecture=PathReLU(width=2), tol=1e-5).fit(pressure, progress).certificate_
    for alpha in alphas[-3:]
]
proven["three layers, paths"] = paths
for name, certificates in proven.items():
    print(name, *certificates, sep="\n  ")

# %%
# Left: the best functions of chains. Right: the best objectives of wide branches.
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
grid = np.linspace(-0.3, 6.3, 800)[:, None]
left.plot(x, y, ".", color="0.6", label="data")
for depth, color, style in ((2, "tab:orange", "-"), (3, "tab:blue", "-"), (5, "black", ":")):
    value = chains[depth].certificate_.objective
    left.plot(grid, chains[depth].predict(grid), style, color=color, label=f"{depth} layers: {value:.5f}")
left.set(xlabel="input x", ylabel="output", title="Chains of neurons, alpha 0.002: objectives")
left.legend(frameon=False)
for (name, certificates), color, marker in zip(
    proven.items(), ("tab:orange", "tab:blue", "tab:green"), "osd", strict=True
):
    strengths = alphas[-len(certificates) :]
    right.plot(strengths, [c.objective for c in certificates], marker=marker, color=color, label=name)
    right.plot(strengths, [c.lower_bound for c in certificates], "k_", markersize=12)
right.plot([], [], "k_", label="proven lower bound")
right.set(xscale="log", xlabel="alpha, strength of the penalty", ylabel="objective per sample")
right.set_title("Wide branches, ten patients")
right.legend(frameon=False)
plt.show()
