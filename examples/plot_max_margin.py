"""
Where gradient descent without a penalty would like to end
==========================================================

Trained on a logistic loss without weight decay, a network grows for ever, in a direction that has a large
margin for its norm. The best such direction is a convex program: ``max_margin`` returns the network of
least norm with margin one, and ``certify_margin`` says how far any separating network is from it. Two
species of iris, sepal and petal width, 25 flowers that can be told apart.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier

from cvxnn import Network, certify_margin, max_margin

flowers = load_iris()
kept = np.flatnonzero(flowers.target > 0)[::4]
X, y = flowers.data[kept][:, [1, 3]], np.where(flowers.target[kept] == 2, 1, -1)
X = (X - X.mean(axis=0)) / X.std(axis=0)
best = max_margin(X, y, hidden_bias="free")
print(best.certificate)

# %%
# Twenty neurons of scikit-learn on the logistic loss without a penalty. As soon as a network separates the
# species it can be scaled to margin one and judged.
epochs, norms = (100, 300, 1000), []
mlp = MLPClassifier(
    (20,),
    alpha=0.0,
    learning_rate_init=0.02,
    batch_size=len(X),
    tol=0.0,
    n_iter_no_change=4000,
    random_state=1,
)
for before, after in zip((0, *epochs), epochs, strict=False):
    for _ in range(before, after):
        mlp.partial_fit(X, y, classes=[-1, 1])
    (W1, w2), (b1, b2) = mlp.coefs_, mlp.intercepts_
    network = Network.two_layer(W1, b1, w2[:, 0], b2[0])
    norms.append(np.linalg.norm(W1, axis=0) @ np.abs(w2[:, 0]) / np.min(y * network(X)))
print(f"after {epochs[-1]} epochs:", certify_margin(network, X, y, hidden_bias="free"))

# %%
# Left: the boundaries of both, rings are the flowers that hold up the margin. Right: the norm that the
# trained network needs for margin one falls slowly towards the least there is.
grid = np.linspace(-2.6, 2.6, 200)
points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
values = best.network(points).reshape(200, 200)
left.contourf(
    grid, grid, values, levels=[-1e3, -1, 0, 1, 1e3], colors=["#9cc5e3", "#dcebf6", "#fdecd9", "#f6c08a"]
)
left.contour(grid, grid, values, levels=[0.0], colors="black")
left.contour(
    grid,
    grid,
    mlp.predict_proba(points)[:, 1].reshape(200, 200),
    levels=[0.5],
    colors="black",
    linestyles=":",
)
for label, color, marker in ((-1, "tab:blue", "o"), (1, "tab:orange", "s")):
    left.scatter(
        *X[y == label].T, color=color, marker=marker, s=22, label=flowers.target_names[(label + 3) // 2]
    )
held = best.multipliers > 1e-6 * np.max(best.multipliers)
left.scatter(*X[held].T, s=80, facecolors="none", edgecolors="black", linewidths=0.8)
left.plot([], [], "k-", label="largest margin")
left.plot([], [], "k:", label=f"trained for {epochs[-1]} epochs")
left.set(xlabel="sepal width (standardised)", ylabel="petal width (standardised)")
left.legend(loc="lower right", fontsize=8)
right.plot(epochs, norms, "o-", color="tab:orange", label="gradient descent (Adam)")
right.axhline(best.certificate.norm, color="tab:blue", label="least norm, proven")
right.set(xscale="log", xlabel="epochs", ylabel="norm at margin one", xticks=epochs)
right.set_xticklabels(epochs)
right.set_ylim(bottom=0.0)
right.minorticks_off()
right.legend(frameon=False)
plt.show()
