"""
Batch normalisation forgets the units of the columns
====================================================

Twenty-four patients of the diabetes data, two columns. One of them, the blood pressure, is measured in
other units: multiplied by a factor. Weight decay of a plain network depends on that, so the best network is
another one for every factor, with another error on the other 418 patients. A batch-normalised network has
the same optimum for all of them: it is a plain network on whitened data, which every choice of units has in
common. Both are trained to a certified optimum, so the differences are the models' and not the training's.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

from cvxnn import ConvexNetRegressor

data = load_diabetes(scaled=False)
X, y = data.data[:, [2, 3]], data.target
X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
rows = np.random.default_rng(0).permutation(len(y))
train, test = rows[:24], rows[24:]

# %%
# The objective of the best network and its error on the other patients, for five units of one column.
factors = np.geomspace(1e-2, 1e2, 5)
names = {"relu": "plain", "batchnorm": "batch normalisation"}
value, error = {}, {}
for name in names:
    value[name], error[name] = [], []
    for factor in factors:
        A = X * np.array([1.0, factor])
        model = ConvexNetRegressor(alpha=0.05, architecture=name, tol=1e-5).fit(A[train], y[train])
        value[name].append(model.certificate_.objective)
        error[name].append(np.sqrt(np.mean((model.predict(A[test]) - y[test]) ** 2)))
        assert model.certificate_.gap < 1e-4
same = value["batchnorm"]
print(f"objectives with batch normalisation: {min(same):.9f} to {max(same):.9f}")

# %%
# The flat lines need no scale of the columns to be chosen.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
styles = {"relu": {"color": "tab:orange", "marker": "s"}, "batchnorm": {"color": "tab:blue", "marker": "o"}}
for name, label in names.items():
    axes[0].plot(factors, value[name], label=label, **styles[name])
    axes[1].plot(factors, error[name], label=label, **styles[name])
axes[0].set(ylabel="best objective per patient (certified)")
axes[1].set(ylabel="root mean square error, other patients\n(standard deviations)")
for axis in axes:
    axis.set(xscale="log", xlabel="units: factor of the blood pressure")
axes[0].legend(frameon=False)
plt.show()
