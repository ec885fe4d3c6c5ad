"""
Neurons that are hyperplanes through samples
============================================

Two spirals, learnt by three networks. The first pays the l1 norm of its hidden weights: its optimum is a
Lasso over wedge products, every kink is a line through two samples (or through one, along an axis), and the
certificate is exact. The second pays weight decay and takes its neurons from the same lines, which costs no
more than a computed factor. The third is a ReLU network with weight decay, whose kinks may lie anywhere;
the bound of the second holds for it too.
"""

import matplotlib.pyplot as plt
import numpy as np

from cvxnn import ConvexNetClassifier, explain

rng = np.random.default_rng(0)
turn = np.sqrt(np.linspace(0.08, 1.0, 32)) * 2.2 * np.pi
arm = np.column_stack([turn * np.cos(turn), turn * np.sin(turn)]) / turn[-1]
X = np.concatenate([arm, -arm]) + 0.01 * rng.normal(size=(64, 2))
y = np.repeat([0, 1], 32)

settings = {"alpha": 3e-4, "hidden_bias": "free", "loss": "squared_hinge"}
models = {
    "wedges, l1 norm": ConvexNetClassifier(architecture="wedge", penalty="l1", **settings),
    "wedges, weight decay": ConvexNetClassifier(architecture="wedge", **settings),
    "ReLU training, weight decay": ConvexNetClassifier(architecture="relu", tol=1e-3, **settings),
}
for name, model in models.items():
    model.fit(X, y)
    print(f"{name}: {model.certificate_}")

# %%
# A neuron of the first network can be read off the samples it runs through.
for kink in explain(models["wedges, l1 norm"], X)[:5]:
    print(kink)

# %%
# Colours are the two classes, lines the kinks of the neurons, rings the samples that lie on a kink.
grid = np.linspace(-1.25, 1.25, 200)
points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
figure, axes = plt.subplots(1, 3, figsize=(11, 4.6), sharey=True, layout="constrained")
for axis, (name, model) in zip(axes, models.items(), strict=True):
    classes = model.predict(points).reshape(200, 200)
    axis.contourf(grid, grid, classes, levels=[-0.5, 0.5, 1.5], colors=["#cfe3f3", "#fbe0c3"])
    first = model.network_.layers[0]
    for w, b in zip(first.weight.T, first.bias, strict=True):
        foot, along = -b * w / (w @ w), np.array([-w[1], w[0]]) / np.linalg.norm(w)
        axis.plot(*np.transpose([foot - 4 * along, foot + 4 * along]), color="grey", linewidth=0.6)
    on = sorted({i for kink in explain(model, X) for i in kink.samples})
    axis.scatter(*X[on].T, s=60, facecolors="none", edgecolors="black", linewidths=0.8)
    for k, (colour, marker) in enumerate((("tab:blue", "o"), ("tab:orange", "s"))):
        axis.scatter(*X[y == k].T, s=14, color=colour, marker=marker)
    found = model.certificate_
    axis.set(xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal", xlabel="first feature")
    axis.set_title(
        f"{name}\n{found.width} neurons, objective {found.objective:.5f}\n"
        f"lower bound {found.lower_bound:.5f} ({found.scope})",
        fontsize=9,
    )
axes[0].set_ylabel("second feature")
plt.show()
