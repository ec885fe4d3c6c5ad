r"""Max-margin networks: what training without a penalty converges to, with a certificate.

Gradient flow on a logistic or exponential loss without weight decay drives the weights of a homogeneous
network to infinity, in the direction of a KKT point of

    minimise   R(f) = 1/2 sum_j (||w_j||^2 + a_j^2)     subject to   y_i f(x_i) >= 1 for all i.

That program has a convex form over the patterns of the data, and the dual

    maximise   sum_i lambda_i     subject to   lambda >= 0,   M(y lambda) <= 1      (sum_i y_i lambda_i = 0
                                                                                    with an intercept),

with M the price of :mod:`cvxnn.certificate`. Any lambda >= 0 divided by its price is feasible, so
``sum(lambda) / M(y lambda)`` bounds the least norm of a separating network of any width from below, with
the scope of the oracle. The program itself is solved by column generation: on the current patterns by a
conic solver, whose multipliers price further neurons. Margins that the current patterns cannot reach are
bought at a finite price first, which is raised until none is bought.

References: Wang and Pilanci, "The convex geometry of backpropagation", ICLR 2022; Lyu and Li, ICLR 2020
(KKT points); Phuong and Lampert, ICLR 2021 (orthogonally separable data).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog
from sklearn.utils.validation import check_X_y

from .architectures.relu import ReLU
from .blocks import Blocks
from .certificate import Scope, relative_gap
from .growth import Rows, merge
from .losses import get_loss
from .margin import MarginCertificate, check_separable, judge_margin, scaled
from .network import Affine, Network
from .network import ReLU as ReLUNeurons
from .oracles import NeuronOracle
from .program import Problem
from .reading import read_network
from .units import outputs_of, unit_neurons, with_magnitudes

__all__ = ["MarginCertificate", "MaxMargin", "certify_margin", "max_margin"]

#: Price of a missing margin to begin with, as a multiple of the largest multiplier, and times it is raised.
PRICE, RAISES = 10.0, 12


@dataclass(frozen=True, eq=False)
class MaxMargin:
    """The max-margin network.

    Parameters
    ----------
    network : Network
        With margin one.
    certificate : MarginCertificate
    multipliers : ndarray of shape (n,)
        ``lambda``, dual feasible; in the order of the rows of X.
    n_iter : int
        Programs solved.
    """

    network: Network
    certificate: MarginCertificate
    multipliers: np.ndarray
    n_iter: int


def max_margin(
    X: Any,
    y: Any,
    *,
    hidden_bias: str | None = "penalized",
    fit_intercept: bool = False,
    patterns: Any = "auto",
    tol: float = 1e-6,
    max_iter: int = 50,
    random_state: int = 0,
) -> MaxMargin:
    """Return the network of least weight decay with ``y_i f(x_i) >= 1``, and its certificate.

    Parameters
    ----------
    X : array-like of shape (n, d)
    y : array-like of shape (n,)
        Labels of two classes; the larger one is positive.
    hidden_bias : {"penalized", "free", None}, default="penalized"
    fit_intercept : bool, default=False
        Whether the output has a free constant. A free hidden bias brings one.
    patterns : {"auto", "all"} or int, default="auto"
        As in :class:`cvxnn.ConvexNetClassifier`.
    tol : float, default=1e-6
        Relative search gap to reach.
    max_iter : int, default=50
        Programs to solve.
    random_state : int, default=0

    Returns
    -------
    MaxMargin

    Raises
    ------
    ValueError
        If no network of the family separates the data; the message says why.

    Examples
    --------
    >>> import numpy as np
    >>> result = max_margin(np.eye(2), np.array([1, -1]), hidden_bias=None)
    >>> round(result.certificate.norm, 6), round(result.certificate.lower_bound, 6)
    (2.0, 2.0)
    """
    X, y = check_X_y(X, y, dtype=np.float64)
    sign = _signs(y)
    architecture = ReLU(hidden_bias, patterns)
    problem = _problem(X, sign, hidden_bias, fit_intercept)
    check_separable(X, sign, hidden_bias, problem.intercept)
    rng = np.random.default_rng(random_state)
    oracle = architecture.oracle(problem, architecture.arrange(problem, rng))
    assert isinstance(oracle, NeuronOracle)
    problem = oracle.problem
    found = oracle.neurons(_start(problem, sign), oracle.X[:0], rng, 1)
    blocks = Blocks(found.masks, found.signs, np.zeros((len(found.signs), oracle.X.shape[1])))
    price, raises, count, best = None, 0, 0, None
    lower, near, lam = 0.0, 0.0, np.zeros(len(sign))
    scope: Scope = oracle.scope
    for count in range(1, max_iter + 1):  # noqa: B007
        W, c, multipliers, missing = _master(oracle, blocks, sign, price)
        if price is None:
            price = PRICE * max(1.0, float(np.max(multipliers)))
        if np.max(missing) <= 1e-7:
            network = _network(architecture, oracle, W, blocks.signs, X, sign, c)
            norm = architecture.cost(network) if network is not None else np.inf
            if network is not None and (best is None or norm < architecture.cost(best)):
                best = network
        Z = problem.loss.balance(sign * multipliers) if problem.intercept else sign * multipliers
        at = oracle.price(Z)
        seen = oracle.neurons(Z, W[oracle.design.norms(W) > 0], rng, 1)
        total = float(np.sum(np.abs(Z)))
        if at.value > 0 and total / at.value > lower:
            lower, lam, scope = total / at.value, np.abs(Z) / at.value, at.scope
        near = max(near, total / max(at.found, seen.best, 1.0))
        goal = architecture.cost(best) if best is not None else np.inf
        if best is not None and relative_gap(goal, near) <= tol and np.max(missing) <= 1e-7:
            break
        out = np.flatnonzero(seen.values > 1.0 + 1e-9)[:200]
        fresh = Blocks(seen.masks[out], seen.signs[out], np.zeros((len(out), oracle.X.shape[1])))
        grown = blocks.take(oracle.design.norms(W) > 1e-9 * np.max(oracle.design.norms(W), initial=0.0), W)
        grown = grown.join(fresh)
        if not set(fresh.labels()) - set(blocks.labels()):
            if np.max(missing) <= 1e-7 or raises == RAISES:
                break
            price, raises, grown = 10.0 * price, raises + 1, blocks.join(fresh)
        blocks = grown
    if best is None:
        raise ArithmeticError("no separating network was found within max_iter programs: raise max_iter")
    certificate = judge_margin(best, architecture, problem, X, sign, lower, near, scope)
    return MaxMargin(best, certificate, lam, count)


def certify_margin(
    network: Any,
    X: Any,
    y: Any,
    *,
    hidden_bias: str | None = "auto",
    patterns: Any = "auto",
    max_iter: int = 50,
    random_state: int = 0,
) -> MarginCertificate:
    """Certify a trained network as a max-margin network, and as a KKT point.

    The network is scaled to margin one; rescaling a homogeneous network changes no class. An output
    constant is taken as free.

    Parameters
    ----------
    network : Network, tuple, torch.nn.Sequential or scikit-learn MLP
        As for :func:`cvxnn.certify`: a network of one hidden layer of ReLUs and one output, also of a
        fitted estimator of this package.
    X : array-like of shape (n, d)
    y : array-like of shape (n,)
        Labels of two classes; the larger one is positive, or the second of the classes that the object
        knows.
    hidden_bias : {"auto", "penalized", "free", None}, default="auto"
        "auto": "penalized" for networks with hidden biases, which gradient flow counts among the weights,
        else None.
    patterns, max_iter, random_state
        Of the max-margin problem that is solved for the bound.

    Returns
    -------
    MarginCertificate

    Raises
    ------
    ValueError
        If the network does not separate the data, or is of another kind.
    TypeError
        If the object cannot be read as a network.

    Examples
    --------
    >>> import numpy as np
    >>> net = (np.eye(2), None, np.array([1.0, -1.0]), None)
    >>> found = certify_margin(net, np.eye(2), np.array([1, -1]))
    >>> round(found.norm, 6), round(found.stationarity, 6), round(found.complementarity, 6)
    (2.0, 0.0, 0.0)
    """
    X, y = (v.detach() if hasattr(v, "detach") else v for v in (X, y))
    network, classes = _read(network, X)
    X, y = check_X_y(X, y, dtype=np.float64)
    sign = _signs(y)
    if classes is not None and not np.all(np.isin(y, classes)):
        raise ValueError(f"y holds labels other than the network's classes {classes.tolist()}")
    first = network.layers[0]
    assert isinstance(first, Affine)
    if X.shape[1] != network.n_features:
        raise ValueError(f"the network takes {network.n_features} features, X has {X.shape[1]}")
    if hidden_bias == "auto":
        hidden_bias = "penalized" if np.any(first.bias) else None
    margin = float(np.min(sign * network(X)))
    if margin <= 0:
        raise ValueError(
            f"the network does not separate the data (least margin {margin:.3g}): train it longer"
        )
    at_one = scaled(network, 1.0 / margin)
    intercept = network.intercept != 0.0
    best = max_margin(
        X,
        y,
        hidden_bias=hidden_bias,
        fit_intercept=intercept,
        patterns=patterns,
        max_iter=max_iter,
        random_state=random_state,
    ).certificate
    architecture = ReLU(hidden_bias, patterns)
    problem = architecture.problem_of(_problem(X, sign, hidden_bias, intercept))
    near = best.norm * (1.0 - best.search_gap)
    found = judge_margin(at_one, architecture, problem, X, sign, best.lower_bound, near, best.scope)
    return MarginCertificate(**{**found.__dict__, "margin": margin})


def _read(network: Any, X: Any) -> tuple[Network, np.ndarray | None]:
    """A network with one hidden layer of ReLUs in plain weights, and the classes that its object knows."""
    reading = read_network(network, X)
    layers = reading.network.layers
    plain = len(layers) == 3 and isinstance(layers[0], Affine) and isinstance(layers[1], ReLUNeurons)
    if not plain or reading.network.n_outputs != 1 or reading.family is not None:
        raise ValueError(
            "certify_margin judges networks of one hidden layer of ReLUs and one output, not normalised: "
            "pass Sequential(Linear, ReLU, Linear), an MLP of two classes, or weights (W1, b1, W2, b2)"
        )
    return reading.network, reading.classes


def _signs(y: np.ndarray) -> np.ndarray:
    classes = np.unique(y)
    if len(classes) != 2:
        raise ValueError(f"y has {len(classes)} classes: max-margin networks tell two apart")
    return np.where(y == classes[1], 1.0, -1.0)


def _problem(X: np.ndarray, sign: np.ndarray, hidden_bias: str | None, intercept: bool) -> Problem:
    """What the oracle needs: the data, and prices in units of one."""
    free = intercept or hidden_bias == "free"
    return Problem(X, sign, np.ones(len(sign)), get_loss("squared_error"), 1.0, free)


def _start(problem: Problem, sign: np.ndarray) -> np.ndarray:
    """Multipliers to price the first neurons with: all samples alike, and large enough to price out."""
    Z = problem.loss.balance(sign) if problem.intercept else sign
    return Z * 1e6 / max(float(np.max(np.abs(problem.X))), 1e-300)


def _master(
    oracle: NeuronOracle, blocks: Blocks, sign: np.ndarray, price: float | None
) -> tuple[np.ndarray, float, np.ndarray, np.ndarray]:
    """Solve the program on the given blocks; margins that are missing cost `price` each.

    Returns
    -------
    W : ndarray of shape (blocks, r)
    c : float
    multipliers : ndarray of shape (n,)
    missing : ndarray of shape (n,)
    """
    import clarabel

    X, free = oracle.X, oracle.free
    (n, r), k = X.shape, len(blocks.signs)
    kept, intercept = r - free, int(oracle.problem.intercept)
    price = 1e3 if price is None else price
    parts = [m[:, None] * X * s for m, s in zip(blocks.masks, blocks.signs, strict=True)]
    F = sparse.hstack([sparse.csc_matrix(p) for p in parts], format="csc")
    Y = sparse.diags(sign)
    # unknowns W (k r), c, missing (n), norms (k)
    fit = sparse.hstack(
        [-Y @ F, -sign[:, None] * np.ones((n, intercept)), -sparse.eye(n), np.zeros((n, k))]
    )
    lack = sparse.hstack([np.zeros((n, k * r + intercept)), -sparse.eye(n), np.zeros((n, k))])
    cone_rows = [np.where(m, 1.0, -1.0)[:, None] * X for m in blocks.masks]
    inside = sparse.hstack(
        [-sparse.block_diag(cone_rows), sparse.csc_matrix((n * k, intercept + n + k))], format="csc"
    )
    head = sparse.kron(sparse.eye(k), sparse.csc_matrix(np.eye(kept + 1, 1)))
    tail = sparse.kron(sparse.eye(k), sparse.csc_matrix(np.eye(kept + 1, r, k=-1)))
    norms = sparse.hstack([-tail, sparse.csc_matrix(((kept + 1) * k, intercept + n)), -head])
    A = sparse.vstack([fit, lack, inside, norms]).tocsc()
    b = np.concatenate([-np.ones(n), np.zeros(n + n * k + (kept + 1) * k)])
    cost = np.concatenate([np.zeros(k * r + intercept), np.full(n, price), np.ones(k)])
    cones = [clarabel.NonnegativeConeT(2 * n + n * k)] + [clarabel.SecondOrderConeT(kept + 1)] * k
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    size = len(cost)
    result = clarabel.DefaultSolver(sparse.csc_matrix((size, size)), cost, A, b, cones, settings).solve()
    x, z = np.array(result.x), np.array(result.z)
    c = float(x[k * r]) if intercept else 0.0
    missing = np.maximum(x[k * r + intercept : k * r + intercept + n], 0.0)
    return x[: k * r].reshape(k, r), c, np.maximum(z[:n], 0.0), missing


def _network(
    architecture: ReLU,
    oracle: NeuronOracle,
    W: np.ndarray,
    signs: np.ndarray,
    X: np.ndarray,
    sign: np.ndarray,
    c: float,
) -> Network | None:
    """The smallest rounding of a solution, scaled to margin one; None if it separates nothing."""
    best: Network | None = None
    size = oracle.design.norms(W)
    d = X.shape[1]
    for cut, tol in ((1e-12, 0.0), (1e-9, 1e-9), (1e-7, 1e-7), (1e-6, 1e-6), (1e-5, 1e-5)):
        kept = size > cut * np.sum(size)
        rows = merge(Rows(W[kept], signs[kept]), oracle.design, tol)
        full = oracle.design.weights(rows.U)
        root = np.sqrt(oracle.design.norms(rows.U))
        bias = full[:, d] / root if full.shape[1] > d else np.zeros(len(root))
        plain = Network.two_layer((full[:, :d] / root[:, None]).T.copy(), bias, rows.signs * root, c)
        margin = float(np.min(sign * plain(X)))
        if margin <= 0:
            continue
        network = _sparse(scaled(plain, 1.0 / margin), oracle, X, sign)
        if best is None or architecture.cost(network) <= architecture.cost(best) * (1.0 + 1e-8):
            best = network
    return best


def _sparse(network: Network, oracle: NeuronOracle, X: np.ndarray, sign: np.ndarray) -> Network:
    """A vertex of the linear program over the magnitudes of a network's own neurons, at margin one."""
    units, magnitudes = unit_neurons(network, oracle.free)
    fits = sign[:, None] * outputs_of(units, X)
    if oracle.problem.intercept:
        fits = np.column_stack([fits, sign])
    k = len(magnitudes)
    cost = np.append(np.ones(k), np.zeros(fits.shape[1] - k))
    box = [(0.0, None)] * k + [(None, None)] * (fits.shape[1] - k)
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(cost, A_ub=-fits, b_ub=-np.ones(len(X)), bounds=box, method="highs-ds", options=tight)
    if found.status != 0:
        return network
    sparse_ = with_magnitudes(units, np.maximum(found.x[:k], 0.0), float(np.sum(found.x[k:])))
    margin = float(np.min(sign * sparse_(X)))
    if margin <= 0 or float(np.sum(found.x[:k])) / margin > float(np.sum(magnitudes)) * (1.0 + 1e-9):
        return network
    return scaled(sparse_, 1.0 / margin)
