"""
A prediction that is explained by samples
=========================================

Disease progression from body mass index and one blood value (diabetes data): with the l1 norm of hidden
weights the best network of any width is a Lasso over lines through samples. Stronger weight decay leaves
fewer lines, and each is named by the patients it runs through.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

from cvxnn import ConvexNetRegressor, explain

data = load_diabetes()
X = StandardScaler().fit_transform(data.data[:120, [2, 8]])
y = data.target[:120]
y = (y - y.mean()) / y.std()

alphas = (0.1, 0.03, 0.01)
models = [
    ConvexNetRegressor(architecture="wedge", penalty="l1", hidden_bias="free", alpha=alpha).fit(X, y)
    for alpha in alphas
]
for model in models:
    print(model.certificate_)
    for kink in explain(model, X):
        print("  ", kink)

# %%
# Lines are kinks, wider where the neuron counts more; rings are the samples they run through.
a, b = (np.linspace(X[:, k].min() - 0.3, X[:, k].max() + 0.3, 120) for k in range(2))
points = np.stack(np.meshgrid(a, b), axis=-1).reshape(-1, 2)
figure, axes = plt.subplots(1, 3, figsize=(11, 4.0), sharey=True, layout="constrained")
for axis, alpha, model in zip(axes, alphas, models, strict=True):
    values = model.predict(points).reshape(120, 120)
    drawn = axis.contourf(a, b, values, levels=np.linspace(-2.4, 2.4, 13), cmap="cividis", extend="both")
    first, kinks = model.network_.layers[0], explain(model, X)
    for w, c, kink in zip(first.weight.T, first.bias, kinks, strict=True):
        foot, along = -c * w / (w @ w), np.array([-w[1], w[0]]) / np.linalg.norm(w)
        line = np.transpose([foot - 9 * along, foot + 9 * along])
        axis.plot(*line, color="white", linewidth=0.6 + 4 * kink.weight)
    on = sorted({i for kink in kinks for i in kink.samples})
    axis.scatter(*X.T, c=y, cmap="cividis", vmin=-2.4, vmax=2.4, s=16, edgecolors="grey", linewidths=0.4)
    axis.scatter(*X[on].T, s=70, facecolors="none", edgecolors="tab:orange", linewidths=1.5)
    axis.set(xlim=(a[0], a[-1]), ylim=(b[0], b[-1]), xlabel="body mass index (standardised)")
    gap = model.certificate_.gap
    axis.set_title(f"alpha {alpha:g}: {len(kinks)} neurons,\nproven gap {gap:.0e}", fontsize=10)
axes[0].set_ylabel("log triglycerides, s5 (standardised)")
figure.colorbar(drawn, ax=axes, label="disease progression (standardised)")
plt.show()
