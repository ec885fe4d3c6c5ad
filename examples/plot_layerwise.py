"""
A deep network, one certified layer at a time
=============================================

Layer-wise training builds a deep network from two-layer ones: each stage trains a gated network on the
features of the stages before, to the global optimum of a convex program, and its hidden units become the
next features. What is certified is every stage, given the frozen layers in front of it; nothing is claimed
about the deep network as a whole.

The data are handwritten digits, 8 x 8 pixels.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from cvxnn import ConvexNetClassifier, LayerwiseConvClassifier
from cvxnn.architectures.layerwise import Layerwise

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16.0, y, train_size=400, random_state=0, stratify=y)

# %%
# Three dense stages of gated ReLU neurons, each with a bound of the best network on the same features. The
# objective cannot rise, because the units of a stage can compute its output again.
dense = ConvexNetClassifier(
    alpha=0.03,
    architecture=Layerwise(stages=3, stage="gated_relu", patterns=10),
    loss="squared_error",
    tol=1e-3,
)
dense.fit(X_train, y_train)
for stage in dense.stages_:
    print(stage.certificate)

# %%
# Three convolutional stages: 3 x 3 gated convolution, average pooling, linear layer. Their programs have a
# plain squared penalty, so their objectives are not to be compared with those above.
conv = LayerwiseConvClassifier(1e-3, input_shape=(8, 8), stages=3, gates=8, down=(2,)).fit(X_train, y_train)
for stage in conv.stages_:
    print(stage.certificate)


# %%
# Accuracy and certified objective after every stage.
def accuracy(networks: list, X: np.ndarray, y: np.ndarray) -> list[float]:
    """Return the share of right classes of each network."""
    return [float(np.mean(np.argmax(network(X), axis=1) == y)) for network in networks]


figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for model, name, color, marker in (
    (dense, "dense, gated ReLU", "tab:blue", "o"),
    (conv, "convolutional", "tab:orange", "s"),
):
    networks = [stage.network for stage in model.stages_]
    number = np.arange(1, len(networks) + 1)
    axes[0].plot(
        number, 100 * np.array(accuracy(networks, X_test, y_test)), color=color, marker=marker, label=name
    )
    objectives = [stage.certificate.objective for stage in model.stages_]
    bounds = [stage.certificate.lower_bound for stage in model.stages_]
    axes[1].plot(number, objectives, color=color, marker=marker, label=f"{name}: objective")
    axes[1].plot(number, bounds, color="black", marker="_", markersize=14, linestyle="none")
axes[1].plot(
    [],
    [],
    color="black",
    marker="_",
    markersize=14,
    linestyle="none",
    label="proven lower bound of the stage",
)
axes[0].set(xlabel="stage", ylabel="test accuracy (%)", xticks=[1, 2, 3], title="1397 test digits")
axes[1].set(
    xlabel="stage",
    ylabel="objective per sample",
    xticks=[1, 2, 3],
    yscale="log",
    title="400 training digits",
)
axes[0].legend(frameon=False)
axes[1].legend(frameon=False)
plt.show()
