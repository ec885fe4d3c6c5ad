"""
Six activations, each at its optimum
====================================

Forty patients of the diabetes data, two columns, the same penalty: what an activation does to the function
that is learnt, when all networks are the best of their kind. ReLU neurons bend it along a line and are flat
on one side, leaky ones are nowhere flat, absolute values rise on both sides, thresholds make steps, a
quadratic activation bends everywhere, and a linear one nowhere.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from cvxnn import ConvexNetRegressor
from cvxnn.architectures.leaky_relu import LeakyReLU

data = load_diabetes()
X, y = data.data[:, [2, 8]], data.target
X, y = X / X.std(axis=0), (y - y.mean()) / y.std()
train, test = slice(0, 40), slice(40, None)

families = {
    "ReLU": "relu",
    "leaky ReLU, slope 0.3": LeakyReLU(slope=0.3),
    "absolute value": "absolute",
    "threshold": "threshold",
    "quadratic": "polynomial",
    "linear": "linear",
}
models = {
    name: ConvexNetRegressor(alpha=0.03, architecture=family, tol=1e-4).fit(X[train], y[train])
    for name, family in families.items()
}
for name, model in models.items():
    print(f"{name}: {model.certificate_}")

# %%
# With two columns all patterns can be listed, so the gaps close and the pictures are those of optimal
# networks. Contours are predictions, points the patients (colours: their progress); errors are those of the
# 402 other patients. On few noisy samples a family that can do less is not worse.
a, b = (np.linspace(X[:, k].min(), X[:, k].max(), 160) for k in range(2))
points = np.stack(np.meshgrid(a, b), axis=-1).reshape(-1, 2)
figure, axes = plt.subplots(2, 3, figsize=(10, 6.4), sharex=True, sharey=True, layout="constrained")
levels = np.linspace(-2.4, 2.4, 17)
for axis, (name, model) in zip(axes.ravel(), models.items(), strict=True):
    values = model.predict(points).reshape(160, 160)
    drawn = axis.contourf(a, b, values, levels=levels, cmap="cividis", extend="both")
    axis.scatter(*X[train].T, c=y[train], cmap="cividis", vmin=-2.4, vmax=2.4, s=22, edgecolors="white")
    error = np.sqrt(np.mean((model.predict(X[test]) - y[test]) ** 2))
    found = model.certificate_
    units = f"{found.width} neuron{'' if found.width == 1 else 's'}"
    axis.set_title(f"{name}\n{units}, gap {found.gap:.0e}, error {error:.2f}", fontsize=10)
for axis in axes[1]:
    axis.set_xlabel("body mass index (standardised)")
for axis in axes[:, 0]:
    axis.set_ylabel("s5, log triglycerides")
figure.colorbar(drawn, ax=axes, label="disease progression (standardised)")
plt.show()
