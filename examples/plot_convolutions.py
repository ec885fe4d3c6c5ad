"""
Seven convolutional networks tell threes from eights
====================================================

What a convolutional network can see depends on what follows its filters: a mean over all positions knows
which strokes there are and not where, a weight for every window knows both, a maximum asks whether a stroke
is there at all. Seven families are trained on the same 24 digits until no better neuron is found, so what
differs is the family and not the luck of a training run.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from cvxnn import ConvexNetClassifier
from cvxnn.architectures.cnn import CNN
from cvxnn.architectures.cnn_circular import CNNCircular
from cvxnn.architectures.cnn_gated import CNNGated
from cvxnn.architectures.cnn_linear import CNNLinear
from cvxnn.architectures.cnn_max import CNNMax
from cvxnn.architectures.polynomial_cnn import PolynomialCNN

digits = load_digits()
kept = np.flatnonzero(np.isin(digits.target, (3, 8)))
images, labels = digits.images[kept] / 16.0, digits.target[kept]
train, test = slice(0, 24), slice(24, None)

families = {
    "gated,\nmean of all": CNNGated(kernel=3),
    "ReLU,\nwindows": CNN(kernel=3, pool=3),
    "ReLU,\nno pooling": CNN(kernel=3, stride=2, pool="flatten"),
    "ReLU,\nmaximum": CNNMax(kernel=3, stride=2),
    "quadratic,\nwindows": PolynomialCNN(kernel=3, pool=3),
    "linear,\nno pooling": CNNLinear(kernel=3),
    "circular,\ndense": CNNCircular(),
}
models = {}
for name, family in families.items():
    model = ConvexNetClassifier(alpha=0.03, architecture=family, loss="squared_error", tol=0.02, max_iter=4)
    models[name] = model.fit(images[train], labels[train])
    print(name.replace("\n", " ") + ":", model.certificate_)


# %%
# How the output moves when one pixel of a digit goes from a tenth lighter to a tenth darker: orange pixels
# make the digit more of an eight, purple ones more of a three.
def sensitivity(network, image: np.ndarray) -> np.ndarray:
    """Return the differences of the output for every pixel."""
    step = 0.1 * np.eye(image.size)
    return (network(image.ravel() + step) - network(image.ravel() - step)).reshape(image.shape)


# %%
# The mean of all positions looks all over the digit, as it cannot know where a stroke is, and the maximum
# hangs on few pixels. Networks with weights for windows or positions look at the lower left, where an eight
# closes and a three does not. The map of the linear network is the same for all digits. Prices of gated,
# quadratic and linear neurons are exact, so their gaps close; bounds over all patterns of ReLU networks are
# loose here. Objectives of different families are not to be compared.
shown = [images[test][labels[test] == digit][3] for digit in (3, 8)]
figure, axes = plt.subplots(3, len(models) + 1, figsize=(10, 4.6), layout="constrained")
for row, image in enumerate(shown):
    axes[row, 0].imshow(image, cmap="gray_r")
for column, (name, model) in enumerate(models.items(), start=1):
    maps = [sensitivity(model.network_, image) for image in shown]
    size = np.max(np.abs(maps))
    for row, values in enumerate(maps):
        axes[row, column].imshow(values, cmap="PuOr_r", vmin=-size, vmax=size)
    axes[0, column].set_title(name, fontsize=9)
for axis in axes[:2].ravel():
    axis.set(xticks=[], yticks=[])
grid = axes[2, 0].get_gridspec()
for axis in axes[2]:
    axis.remove()
below = figure.add_subplot(grid[2, 1:])
right = [100 * np.mean(m.predict(images[test]) == labels[test]) for m in models.values()]
bars = below.bar(range(len(models)), right, color="0.7", width=0.6)
said = [f"{m.certificate_.gap:.0%},\n{m.certificate_.scope}" for m in models.values()]
below.bar_label(bars, said, label_type="center", fontsize=8)
below.set(xlim=(-0.5, len(models) - 0.5), ylim=(50, 100), xticks=[], ylabel="right, of\nothers (%)")
below.set_xlabel("in the bars: proven gap, and its scope", fontsize=9)
plt.show()
