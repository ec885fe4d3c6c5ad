"""
How far below the optimum are the proofs?
=========================================

Where all activation patterns of the data can be listed, a certificate is exact. Where they cannot, the
lower bound comes from a relaxation: matrices as large as the number of features (fast, for any amount of
data), or a semidefinite program over lifted neurons (``bound="sdp"``, for a few dozen samples). On twelve
flowers the optimum is known, and both can be compared with it.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris

from cvxnn.architectures.relu import ReLU
from cvxnn.architectures.vector_relu import VectorReLU
from cvxnn.lifted_oracles import LiftedOracle
from cvxnn.losses import get_loss
from cvxnn.oracles import SearchOracle
from cvxnn.program import Problem
from cvxnn.train import train
from cvxnn.vector_growth import Coupling
from cvxnn.vector_oracles import VectorSearch

flowers = load_iris()
rows = np.random.default_rng(1).choice(np.arange(50, 150), size=12, replace=False)
rows = np.concatenate([rows[:8], [0, 10, 20, 30]])
X = (flowers.data - flowers.data.mean(axis=0)) / flowers.data.std(axis=0)
X, species = X[rows][:, 1:3], flowers.target[rows]
alphas = np.geomspace(1e-4, 1e-1, 5)


# %%
# An oracle that searches proves by matrices; wrapped, it also lifts. Each takes the dual variable of the
# best network and moves it on.
def bounds(y: np.ndarray, alpha: float) -> tuple[float, float, float]:
    """Return the optimum, the matrix bound and the semidefinite bound, per sample."""
    outputs = 1 if y.ndim == 1 else y.shape[1]
    family = ReLU(hidden_bias=None) if outputs == 1 else VectorReLU(hidden_bias=None)
    problem = Problem.from_alpha(X, y, None, get_loss("squared_error", outputs), alpha, False)
    best = train(problem, family, tol=1e-4, max_time=2.0)
    design = family.design(problem)
    search = (
        SearchOracle(problem, design) if outputs == 1 else VectorSearch(problem, design, Coupling.joint)
    )
    proofs = [o.prove(best.dual, max_iter=20, max_time=60.0) for o in (search, LiftedOracle(search))]
    return best.certificate.objective, *(proof.bound / len(y) for proof in proofs)


targets = {
    "one output: versicolor or not": np.where(species == 1, 1.0, -1.0),
    "three outputs: one for each species": np.eye(3)[species],
}
found = {name: np.array([bounds(y, alpha) for alpha in alphas]) for name, y in targets.items()}

# %%
# The weaker the decay, the more a network can bend between samples, and the more a relaxation gives away.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
for axis, (name, values) in zip(axes, found.items(), strict=True):
    share = values / values[:, :1]
    axis.semilogx(alphas, share[:, 0], color="black", label="optimum")
    axis.semilogx(alphas, share[:, 2], "o-", color="tab:blue", label="semidefinite bound")
    axis.semilogx(alphas, share[:, 1], "s--", color="tab:orange", label="matrix bound")
    axis.set(title=name, xlabel="weight decay alpha", ylim=(0.0, 1.05))
axes[0].set_ylabel("share of the optimum")
axes[0].legend(frameon=False, loc="lower right")
plt.show()
