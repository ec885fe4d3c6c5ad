"""
Among scikit-learn's tools: frames, pipelines, searches and explanations
========================================================================

The estimators take data frames, keep the names of their columns, and go where scikit-learn's own go:
pipelines, grid searches, cross-validation. Their hidden activations are features for
other models, and each prediction splits into what each feature adds, exactly.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.inspection import permutation_importance
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cvxnn import ConvexNetRegressor, HiddenFeatures

X, y = load_diabetes(return_X_y=True, as_frame=True)
y = (y - y.mean()) / y.std()
train, test = np.arange(len(X)) % 2 == 0, np.arange(len(X)) % 2 == 1

# %%
# A gated network in a pipeline; its alpha by a grid search.
net = ConvexNetRegressor(architecture="gated_relu", patterns=50)
search = GridSearchCV(
    make_pipeline(StandardScaler().set_output(transform="pandas"), net),
    {"convexnetregressor__alpha": [0.03, 0.1, 0.3]},
    cv=3,
).fit(X[train], y[train])
best = search.best_estimator_
print(search.best_params_, "R² on new samples:", round(best.score(X[test], y[test]), 3))
print(best[-1].certificate_)

# %%
# Hidden activations as columns of a data frame, and a ridge regression on them.
features = HiddenFeatures(best[-1]).set_output(transform="pandas")
stacked = make_pipeline(StandardScaler(), features, Ridge(10.0))
print("cross-validated R² of ridge on the features:", cross_val_score(stacked, X, y, cv=3).round(3))

# %%
# What each feature adds to the prediction of one sample; base and addends sum to the prediction. Beside
# it, how much worse predictions get when a column is shuffled.
scaled = best[0].transform(X[test])
explained = best[-1].explain_samples(scaled)
total = explained.base_values + explained.values.sum(axis=1)
print("largest difference to predict:", np.abs(total - best.predict(X[test])).max())

importance = permutation_importance(best, X[test], y[test], n_repeats=5, random_state=0)
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), sharey=True, layout="constrained")
added = explained.values[0]
bars = axes[0].barh(explained.feature_names, added, color=np.where(added > 0, "#0072B2", "#D55E00"))
for bar, value in zip(bars, added, strict=True):
    bar.set(hatch="" if value > 0 else "////", edgecolor="black", linewidth=0.5)
axes[0].axvline(0.0, color="black", linewidth=0.8)
axes[0].set(
    xlabel="added to the prediction (standard deviations of y)",
    title=f"one sample: {explained.base_values[0]:+.2f} and these are {total[0]:+.2f}",
)
axes[1].barh(X.columns, importance.importances_mean, xerr=importance.importances_std, color="#56B4E9")
axes[1].set(xlabel="loss of R² when shuffled", title="permutation importance")
axes[0].invert_yaxis()
plt.show()
