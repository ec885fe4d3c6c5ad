"""
Pictures of a network: training, neurons, decisions, cells and paths
====================================================================

Five displays, with the conventions of scikit-learn's: ``from_estimator`` draws a fitted estimator, ``plot``
draws again (on other axes, say), and attributes such as ``ax_`` and ``figure_`` let you change it.
They are readable in greys and for colour-blind people.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_iris, make_moons

from cvxnn import (
    ArrangementDisplay,
    ConvergenceDisplay,
    ConvexNetClassifier,
    ConvexNetPath,
    DecisionDisplay,
    NeuronDisplay,
    PathDisplay,
)

# %%
# Two moons, two features. While training runs, the objective falls; the bound says how low it could get for
# a network of any width, and the shaded band is what is left between them.
X, y = make_moons(80, noise=0.15, random_state=0)
model = ConvexNetClassifier(alpha=0.02).fit(X, y)
print(model.certificate_)

figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
ConvergenceDisplay.from_estimator(model, ax=axes[0])
ConvergenceDisplay.from_estimator(model, quantity="gap", ax=axes[1])
plt.show()

# %%
# What was learned: the regions of the two classes, and the lines on which the neurons have their kinks.
display = DecisionDisplay.from_estimator(model, X, y)
display.ax_.set_title("two moons")
plt.show()

# %%
# Each neuron as the samples see it. At an optimal network many kinks run through samples, red here.
NeuronDisplay.from_estimator(model, X, k=3)
plt.show()

# %%
# All neurons of the same cell of weight space are active on the same samples, and training chooses among
# cells. Of twelve samples they can still be told apart: weights of two features and a bias, both sides.
ArrangementDisplay.from_estimator(model, X[::7])
plt.show()

# %%
# Iris has four features: two are drawn, the others are held at their medians.
iris = load_iris()
half = np.arange(len(iris.data)) % 2 == 0
species = iris.target_names[iris.target]
flowers = ConvexNetClassifier(alpha=0.05, max_iter=5).fit(iris.data[half], species[half])
DecisionDisplay.from_estimator(
    flowers,
    iris.data[half],
    species[half],
    features=(2, 3),
    feature_names=iris.feature_names,
)
plt.show()

# %%
# Along alpha: how many neurons, how large, how good on samples held out, and how well proven.
path = ConvexNetPath(n_alphas=6, eps=0.02, loss="log_loss", n_bounds=2, max_iter=5).fit(X[::2], y[::2])
PathDisplay.from_estimator(path, X[::2], y[::2], X[1::2], y[1::2])
plt.show()
