"""
One measurement, and the curves of optimal networks
===================================================

How malignant a tumour is against its radius (breast cancer data, 569 women). On one input every family is
a well-known kind of curve: a two-layer network with free biases is a linear spline with few kinks, a chain
of three layers is a sum of clipped ramps, thresholds are steps. All are fitted to their proven optimum,
with as many neurons as that needs.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer

from cvxnn import ConvexNetRegressor
from cvxnn.architectures.deep_narrow import NarrowReLU

data = load_breast_cancer(as_frame=True)
x = data.frame[["worst radius"]].to_numpy()
y = 1.0 - data.target.to_numpy()

# %%
# Free biases: the penalty is the sum of all changes of slope, so weaker decay means more kinks, one neuron
# for each. Fitting takes milliseconds.
alphas = (1.0, 0.1, 3e-4)
splines = [ConvexNetRegressor(alpha, hidden_bias="free", tol=1e-8).fit(x, y) for alpha in alphas]
for model in splines:
    print(model.certificate_)

# %%
# The same data for neurons whose bias pays like their weight, for chains, and for steps.
others = {
    "ReLU, penalised bias": ConvexNetRegressor(1e-3, tol=1e-5).fit(x, y),
    "chains of three layers": ConvexNetRegressor(0.03, architecture=NarrowReLU(3), tol=1e-8).fit(x, y),
    "thresholds": ConvexNetRegressor(0.02, architecture="threshold", tol=1e-6).fit(x, y),
}
for name, model in others.items():
    print(f"{name}: {model.certificate_}")

# %%
# Left: circles are the kinks of the splines. Right: two layers with penalised biases go on rising where the
# data no longer do, since stopping costs another neuron; a chain is flat at both ends, as clipping is free;
# thresholds give risk classes to read off.
grid = np.linspace(x.min(), x.max(), 1000)[:, None]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.9), sharey=True, layout="constrained")
colors = ("tab:orange", "tab:blue", "black")
for axis in axes:
    axis.plot(x, y, "|", color="0.6", markersize=7, alpha=0.5)
    axis.set(xlabel="worst radius", ylim=(-0.15, 1.25))
for alpha, model, color in zip(alphas, splines, colors, strict=True):
    hidden = model.network_.layers[0]
    kinks = -hidden.bias / hidden.weight[0]
    axes[0].plot(grid, model.predict(grid), color=color, label=f"alpha {alpha:g}: {len(kinks)} neurons")
    kinks = kinks[(kinks > x.min()) & (kinks < x.max())][:, None]
    axes[0].plot(kinks, model.predict(kinks), "o", color=color, markerfacecolor="white")
for (name, model), color in zip(others.items(), colors, strict=True):
    axes[1].plot(
        grid, model.predict(grid), color=color, label=f"{name}, {model.certificate_.width} neurons"
    )
axes[0].set(ylabel="share of malignant tumours", title="Splines: two layers, free biases")
axes[1].set_title("Other families, each at its optimum")
for axis in axes:
    axis.legend(frameon=False, loc="lower right", fontsize=9)
plt.show()
