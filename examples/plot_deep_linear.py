"""
Depth without activations: what deep linear networks leave out
==============================================================

A deep linear network computes no more than a matrix, but its weight decay is another penalty of that
matrix: ``L/2 sum_k s_k^(2/L)`` of its singular values at L layers. Two layers shrink all of them alike
until they are zero; more layers drop them whole. Parallel branches with products of norms pay the nuclear
norm at every depth, which is convex: depth changes nothing for them.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from cvxnn import ConvexNetRegressor
from cvxnn.architectures.deep_linear import VectorDeepLinear
from cvxnn.schatten import deep_linear

digits = load_digits()
train, test = slice(0, 900), slice(900, None)
pixels = digits.data - digits.data[train].mean(axis=0)
_, size, axes_of = np.linalg.svd(pixels[train], full_matrices=False)
X = pixels @ axes_of[:30].T / size[:30] * np.sqrt(900)  # thirty principal components of variance one
labels, Y = digits.target, np.eye(10)[digits.target] - 0.1

# %%
# On whitened data the optimum of one deep network is known in closed form, global although the problem is
# not convex, for every depth.
largest = {2: 0.3, 3: 0.12, 5: 0.04}
for depth in largest:
    print(depth, "layers:", deep_linear(X[train], Y[train], 0.03, depth).certificate)
branches = ConvexNetRegressor(
    0.03, architecture=VectorDeepLinear(None, depth=5), fit_intercept=False, tol=1e-9
)
branches.fit(X[train], Y[train])
print("parallel branches of five layers:", branches.certificate_)


def singular_values(network) -> np.ndarray:
    """Return those of the matrix that a linear network is."""
    return np.linalg.svd(network(np.eye(30)) - network(np.zeros((1, 30))), compute_uv=False)


# %%
# The ten singular values along alpha, and how many other digits are right with them. Crosses are those of
# the branches. Between its jumps a deep network keeps most of its values, and with them its accuracy.
figure, axes = plt.subplots(2, 3, figsize=(10, 4.8), sharex="col", sharey="row", layout="constrained")
for (above, below), (depth, most) in zip(axes.T, largest.items(), strict=True):
    alphas, kept, right = np.linspace(1e-3, most, 80), [], []
    for alpha in alphas:
        network = deep_linear(X[train], Y[train], alpha, depth).network
        kept.append(singular_values(network)[:10])
        right.append(100 * np.mean(np.argmax(network(X[test]), axis=1) == labels[test]))
    above.plot(alphas, kept, color="tab:blue", linewidth=1)
    below.plot(alphas, right, color="tab:orange")
    above.set_title(f"{depth} layers")
    below.set_xlabel("alpha")
values = singular_values(branches.network_)[:10]
axes[0, 0].plot(np.full(10, 0.03), values, "x", color="black", label="branches, 5 layers")
axes[0, 0].legend(frameon=False)
axes[0, 0].set_ylabel("singular values")
axes[1, 0].set_ylabel("right, of other\ndigits (%)")
plt.show()
