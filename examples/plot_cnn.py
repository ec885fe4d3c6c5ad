"""
The filters of the best convolutional network
=============================================

A convolutional network with a global average slides a few small filters over an image, so it has few
weights, and its convex form is that of a ReLU network on all patches of all images. Here filters of 4 x 4
pixels tell fours from nines; images go in as they are.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from cvxnn import ConvexNetClassifier
from cvxnn.architectures.cnn import CNN

digits = load_digits()
kept = np.flatnonzero(np.isin(digits.target, (4, 9)))
images, labels = digits.images[kept] / 16.0, digits.target[kept]
train, test = slice(0, 80), slice(80, None)

family = CNN(kernel=4, stride=2)
model = ConvexNetClassifier(alpha=3e-3, architecture=family, tol=1e-2).fit(images[train], labels[train])
print(model.certificate_)
accuracy = np.mean(model.predict(images[test]) == labels[test])
print(f"accuracy on {len(labels[test])} other images: {accuracy:.3f}")

# %%
# Every neuron is a filter with the weight that its average has in the output: large outputs mean a nine.
# The two strongest of each kind, and what they see on a four and on a nine.
conv, _, _, last = model.network_.layers
weight = last.weight[:, 0]
size = weight * np.linalg.norm(conv.weight, axis=0)
strongest = np.concatenate([np.argsort(size)[:2], np.argsort(-size)[:2]])
examples = [images[test][labels[test] == digit][0] for digit in (4, 9)]

figure, axes = plt.subplots(3, len(strongest) + 1, figsize=(8.4, 5.0), layout="constrained")
axes[0, 0].axis("off")
for row, (image, digit) in enumerate(zip(examples, (4, 9), strict=True), start=1):
    axes[row, 0].imshow(image, cmap="gray_r")
    axes[row, 0].set_title(f"a {digit}", fontsize=10)
    maps = np.maximum(conv(image.reshape(1, -1)), 0.0).reshape(*conv.windows.out, -1)
    for axis, j in zip(axes[row, 1:], strongest, strict=True):
        axis.imshow(maps[:, :, j], cmap="gray_r", vmin=0.0, vmax=float(np.max(maps)))
        axis.set_title("activations", fontsize=9)
for axis, j in zip(axes[0, 1:], strongest, strict=True):
    size = float(np.max(np.abs(conv.weight[:, strongest])))
    shown = axis.imshow(conv.weight[:, j].reshape(4, 4), cmap="PuOr", vmin=-size, vmax=size)
    axis.set_title(f"filter for a {'nine' if weight[j] > 0 else 'four'}", fontsize=9)
figure.colorbar(shown, ax=axes[0, -1], label="weight")
for axis in axes.ravel():
    axis.set(xticks=[], yticks=[])
plt.show()
