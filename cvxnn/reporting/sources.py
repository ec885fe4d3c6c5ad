"""Who may bring a network to a report: estimators, pipelines that end in one, and model files.

Each becomes a :class:`cvxnn.reporting.subject.Subject`: data as the network sees them, columns under the
names that the person knows, labels as numbers of classes, and the training problem posed again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ..architectures import Architecture
from ..certificate import Certificate
from ..class_weight_options import weights_of
from ..estimator_base import ConvexNet
from ..families import get_architecture
from ..losses import code_classes, get_loss
from ..models import Model
from ..parameters import check_weights, seed_of, weigh_classes
from ..patches import flat_samples
from ..penalty_options import penalty_of
from ..program import Problem
from ..tables import Table
from .columns import Columns, encoded, plain, through
from .subject import Sheet, Subject, check_data, named

#: Parameters of a training that a report lists.
LISTED = ("architecture", "loss", "hidden_bias", "fit_intercept", "penalty", "patterns", "coupling", "rank")


def from_estimator(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    feature_names: Any = None,
    target_names: Any = None,
) -> Subject:
    """Return the subject of a fitted estimator, or of a pipeline whose last step is one.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If it is not fitted, or these are not the data of its training.
    """
    model, front = _last_step(estimator)
    check_is_fitted(model)
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test belong together: pass both, or neither")
    Z, shape = _flat(front, X)
    if Z.shape[1] != model.n_features_in_:
        raise ValueError(
            f"the network takes {model.n_features_in_} features, X has {Z.shape[1]}: pass its data"
        )
    labels = getattr(model, "classes_", None)
    network, certificate = model.network_, model.certificate_
    outputs = network.n_outputs
    data = Sheet(Z, _targets(y, labels, outputs))
    held_out = None if X_test is None else _held_out(front, X_test, y_test, labels, Z.shape[1], outputs)
    family = _family(model, outputs, shape)
    problem = _posed(model, data, labels, _weights(model, y, Z, sample_weight))
    others = "X_test and y_test (sample_weight belongs to the training)"
    check_data(problem, family, network, certificate, others)
    name = type(model).__name__ if front is None else f"{type(model).__name__} in a pipeline"
    return Subject(
        model=name,
        network=network,
        certificate=certificate,
        history=tuple(getattr(model, "history_", ())),
        family=family,
        problem=problem,
        columns=_columns(front, X, shape, feature_names, model),
        data=data,
        held_out=held_out,
        classes=() if labels is None else tuple(map(str, labels)),
        targets=_outputs_of(target_names, y, labels, outputs),
        tol=float(model.tol),
        random_state=seed_of(model.random_state),
        settings=_settings(model, certificate),
        pathless="" if model.rank is None else f"the network was trained on data of rank {model.rank}",
    )


def from_model(name: str, model: Model, table: Table, test: Table | None = None) -> Subject:
    """Return the subject of a model file of the command line and the table it was trained on.

    Raises
    ------
    ValueError
        If the file has no certificate, or this is not the table of its training.
    """
    if model.certificate is None:
        raise ValueError(f"{name} has no certificate: fit the model again")
    settings, target, network = model.settings, model.target, model.network
    outputs = network.n_outputs
    loss = get_loss(settings["loss"], outputs)
    data, y = _sheet(model, table)
    family = get_architecture(
        settings["architecture"],
        settings["hidden_bias"],
        settings["patterns"],
        outputs,
        penalty=penalty_of(settings["penalty"], model.encoding),
        options=settings["options"],
    )
    weights = weights_of(settings["class_weight"], target, y)
    if outputs > 1:
        y = code_classes(y.astype(int), loss, outputs)
    problem = Problem.from_alpha(
        data.X, y, weights, loss, settings["alpha"], bool(settings["fit_intercept"])
    )
    check_data(problem, family, network, model.certificate, "--test")
    listed = {**settings, **settings["options"], "target": target.name}
    hidden = ("options", "seed", "tol")
    return Subject(
        model=name,
        network=network,
        certificate=model.certificate,
        history=model.history,
        family=family,
        problem=problem,
        columns=encoded(model.encoding),
        data=data,
        held_out=None if test is None else _sheet(model, test)[0],
        classes=target.classes,
        targets=target.classes if outputs > 1 else (target.name,),
        shift=0.0 if target.classes else target.mean,
        unit=1.0 if target.classes else target.scale,
        tol=float(settings["tol"]),
        random_state=seed_of(settings["seed"]),
        settings=tuple((_worded(key), str(listed[key])) for key in listed if key not in hidden),
    )


def _last_step(estimator: Any) -> tuple[Any, Any]:
    """The estimator of this package, and what stands before it in a pipeline."""
    model, front = estimator, None
    if isinstance(estimator, Pipeline):
        model = estimator.steps[-1][1]
        front = estimator[:-1] if len(estimator.steps) > 1 else None
    if not isinstance(model, ConvexNet):
        raise TypeError(
            f"no report on {type(model).__name__}: pass a fitted ConvexNetRegressor or ConvexNetClassifier "
            "(or their CV versions), or a pipeline that ends in one"
        )
    return model, front


def _flat(front: Any, X: Any) -> tuple[np.ndarray, tuple[int, ...] | None]:
    """Samples as rows that the network sees, and the shape of one where it was no row."""
    Z, shape = flat_samples(X if front is None else front.transform(X))
    Z = Z.toarray() if hasattr(Z, "toarray") else Z
    return np.asarray(Z, dtype=np.float64), shape


def _held_out(front: Any, X: Any, y: Any, labels: np.ndarray | None, features: int, outputs: int) -> Sheet:
    """Samples that training has not seen, with errors that name them."""
    Z, _ = _flat(front, X)
    if Z.ndim != 2 or Z.shape[1] != features:
        raise ValueError(f"X_test has {Z.shape[-1]} features, X has {features}: pass the same columns")
    if not np.all(np.isfinite(Z)):
        raise ValueError("X_test holds NaN or infinity: leave those samples out, or fill them in")
    if len(Z) != len(y):
        raise ValueError(f"X_test has {len(Z)} samples, y_test {len(y)}: pass one target for each")
    if labels is not None and not np.all(np.isin(y, labels)):
        raise ValueError(
            f"y_test holds labels other than {labels.tolist()}: leave out samples of classes that the "
            "training has not seen"
        )
    targets = _targets(y, labels, outputs)
    if not np.all(np.isfinite(targets)):
        raise ValueError("y_test holds NaN or infinity: leave those samples out")
    return Sheet(Z, targets)


def _targets(y: Any, labels: np.ndarray | None, outputs: int) -> np.ndarray:
    """Numbers of classes, or targets as floats, (n,) where there is one."""
    if labels is not None:
        y = column_or_1d(y)
        if not np.all(np.isin(y, labels)):
            raise ValueError(f"y holds labels other than {labels.tolist()}: pass the data of the training")
        return np.searchsorted(labels, y)
    y = np.asarray(y, dtype=np.float64)
    return y.reshape(len(y), -1)[:, 0] if outputs == 1 else y


def _weights(model: Any, y: Any, Z: np.ndarray, sample_weight: Any) -> np.ndarray | None:
    """The weights of the training: those of samples times those of their classes."""
    weights, class_weight = check_weights(sample_weight, Z), getattr(model, "class_weight", None)
    return weights if class_weight is None else weigh_classes(class_weight, column_or_1d(y), weights)


def _posed(model: Any, data: Sheet, labels: np.ndarray | None, weights: np.ndarray | None) -> Problem:
    """The problem that an estimator was trained on."""
    loss = get_loss(model.loss, model.network_.n_outputs)
    y = data.y if labels is None else code_classes(data.y, loss, len(labels))
    alpha = model.certificate_.alpha
    return Problem.from_alpha(data.X, y, weights, loss, alpha, bool(model.fit_intercept))


def _family(model: Any, outputs: int, shape: tuple[int, ...] | None) -> Architecture:
    family = get_architecture(
        model.architecture, model.hidden_bias, model.patterns, outputs, model.coupling, model.penalty
    )
    return family if shape is None else family.for_shape(shape)


def _columns(front: Any, X: Any, shape: Any, feature_names: Any, model: Any) -> Columns:
    """The inputs of the network under the names of the person's columns."""
    if shape is not None and feature_names is None:
        # a batch of images: places instead of names
        grid = np.ndindex(*shape[:2]) if len(shape) < 3 else np.ndindex(*shape)
        names = [f"pixel {', '.join(map(str, place))}" for place in grid]
        return Columns(plain(names).entries, places=True)
    own = getattr(X, "columns", None)
    first = model if front is None else front[0]
    own = getattr(first, "feature_names_in_", None) if own is None else own
    count = int(np.prod(np.shape(X)[1:]))
    entering = named(feature_names if feature_names is not None else own, count, "feature")
    columns = through(front, plain(list(entering)))
    if len(columns.entries) == model.n_features_in_:
        return columns
    numbered = named(None, model.n_features_in_, "input")
    return Columns(plain(list(numbered)).entries, columns.opaque or ("the pipeline",))


def _outputs_of(names: Any, y: Any, labels: np.ndarray | None, outputs: int) -> tuple[str, ...]:
    """What the outputs are called."""
    if labels is not None:
        return tuple(map(str, labels)) if outputs > 1 else (str(labels[1]),)
    own = getattr(y, "columns", None)
    own = [y.name] if own is None and getattr(y, "name", None) is not None else own
    asked = names if names is not None else own
    if asked is None and outputs == 1:
        return ("target",)
    return named(asked, outputs, "target")


def _settings(model: Any, certificate: Certificate) -> tuple[tuple[str, str], ...]:
    """How an estimator was trained: alpha, and what a report lists."""
    chosen = " (chosen by cross-validation)" if hasattr(model, "alpha_") else ""
    rows = [("alpha", f"{certificate.alpha:g}{chosen}")]
    for name in (*LISTED, "class_weight", "tol", "max_iter", "max_time"):
        value = getattr(model, name, None)
        if value is not None:
            rows.append((_worded(name), str(value)))
    return tuple(rows)


def _worded(name: str) -> str:
    return name.replace("_", " ")


def _sheet(model: Model, table: Table) -> tuple[Sheet, np.ndarray]:
    """Samples of a table in the person's units, and the targets that the network was trained on."""
    table, _ = table.with_target(model.target.name)
    X, _ = model.encoding.apply(table)
    y = model.target.apply(table)
    places = tuple(table.place(row) for row in range(len(table)))
    classes = model.target.classes
    if len(classes) == 2:
        return Sheet(X, (y > 0).astype(int), places), y
    mine = y.astype(int) if classes else y * model.target.scale + model.target.mean
    return Sheet(X, mine, places), y
