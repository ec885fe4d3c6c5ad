"""
Weights of one bit
==================

Networks of units ``(x'u)(x'v)`` whose hidden weights are signs. With ten features all 512 sign vectors
(of each pair u, -u one) can be looked at, so the best network is known, and the semidefinite relaxation
can be compared with it: its value is below, and its value at 1.782 times the strength of the penalty is
above.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from cvxnn import ConvexNetRegressor
from cvxnn.architectures.quantized import Quantized
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.sign_pairs import KRIVINE
from cvxnn.sign_relaxation import relax

data, target = load_breast_cancer(return_X_y=True)
X, y = StandardScaler().fit_transform(data[:, :10]), 2.0 * target - 1.0

# %%
# Strengths from weak to strong; the best networks are certified.
alphas = np.geomspace(1e-2, 1.0, 7)
models = [
    ConvexNetRegressor(alpha=alpha, architecture=Quantized(hidden_bias=None)).fit(X, y) for alpha in alphas
]
for model in models:
    print(model.certificate_)
problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), 1.0, True)
below = [relax(problem.at(alpha), problem.X).value / len(y) for alpha in alphas]
above = [relax(problem.at(KRIVINE * alpha), problem.X).value / len(y) for alpha in alphas]

# %%
# To the right the signs of a network's units, those of u above those of v.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
left.fill_between(alphas, below, above, color="tab:blue", alpha=0.2, label="where the optimum is")
left.plot(alphas, below, color="tab:blue", linestyle="--", label="semidefinite relaxation")
left.plot(alphas, above, color="tab:blue", linestyle=":", label="the same at 1.782 alpha")
objectives = [model.certificate_.objective for model in models]
left.plot(alphas, objectives, color="tab:orange", marker="o", label="best network, by enumeration")
left.set(xscale="log", xlabel="alpha", ylabel="objective per sample")
left.legend(frameon=False)
network = models[2].network_
order = np.argsort(-np.abs(network.layers[-1].weight[:, 0]))[:8]
U, V = np.split(network.layers[0].weight, 2, axis=1)
right.imshow(np.vstack([U[:, order], V[:, order]]), cmap="PuOr", vmin=-2, vmax=2, aspect="auto")
right.axhline(9.5, color="black")
right.set(xlabel="unit, by its output weight", ylabel="feature, of v below the line", yticks=[])
right.set_title(f"{network.width} units at alpha {alphas[2]:.2g}, the first 8")
plt.show()
