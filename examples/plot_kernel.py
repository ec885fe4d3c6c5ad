"""
From the tangent kernel to the best kernel
==========================================

A gated network whose weights barely move is a kernel machine with the neural tangent kernel, which gives
every activation pattern the weight of its probability and looks at no target. Training the network to its
optimum chooses the weights of the patterns' kernels instead. The solver starts at the one and ends at the
other, with n x n systems only, and its dual variable proves how far it still has to go.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from cvxnn.architectures.gated import GatedReLU
from cvxnn.losses import get_loss
from cvxnn.program import Problem
from cvxnn.solvers import SOLVERS, run

X, labels = load_breast_cancer(return_X_y=True)
X, y = StandardScaler().fit_transform(X), np.where(labels == 1, 1.0, -1.0)
problem = Problem.from_alpha(X, y, None, get_loss("squared_error"), 0.02, True)
network = GatedReLU("penalized", 300)
program = network.lift(problem, network.arrange(problem, np.random.default_rng(0)))

# %%
# The first point is ridge regression with the tangent kernel (of 300 gates). Then come eight reweightings,
# and Newton's method on the weights of the kernels.
solver = SOLVERS["kernel"]()
state, gaps, weights = solver.init(program, None), [], []
while state is not None and len(gaps) < 40 and (not gaps or gaps[-1] > 1e-10):
    at = solver.candidate(program, state)
    primal, bound = program.primal(at.W, at.offset), program.bound(at.Z)
    gaps.append((primal - bound) / primal)
    weights.append(state.at.eta)
    state = solver.step(program, state)
solution = run(solver, program, tol=1e-10)
print(
    f"objective {solution.primal / len(y):.8f}, gap {solution.gap:.1e}, {np.sum(weights[-1] > 0)} kernels"
)

# %%
# Left: how far each point is from the best kernel, proven. Right: the weights of the kernels, sorted.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
steps = np.arange(len(gaps))
axes[0].plot(steps[:9], gaps[:9], color="tab:orange", marker="s", label="reweighting")
axes[0].plot(steps[8:], np.maximum(gaps[8:], 1e-16), color="tab:blue", marker="o", label="Newton's method")
axes[0].annotate("tangent kernel", (0, gaps[0]), (0, 1e-5), ha="left", arrowprops={"arrowstyle": "->"})
axes[0].set(xlabel="step", ylabel="proven relative gap", yscale="log", xticks=steps[::4])
axes[0].legend(frameon=False, loc="lower left")
for eta, color, label in ((weights[0], "orange", "tangent kernel"), (weights[-1], "blue", "best kernel")):
    axes[1].step(np.arange(len(eta)), np.sort(eta)[::-1], where="post", color=f"tab:{color}", label=label)
axes[1].set(xlabel="activation pattern, largest weight first", ylabel="weight of its kernel", xlim=(0, 100))
axes[1].legend(frameon=False)
plt.show()
