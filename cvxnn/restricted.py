r"""A gated program restricted to a few of its groups, solved by block steps and Newton's method in turn.

Block steps (:mod:`cvxnn.block_step`) minimise exactly over one group at a time: they find out which
groups are zero. Newton's method on the others (:mod:`cvxnn.manifold`) converges quadratically once
these are right. In a Newton step a group whose weights would turn round by more than a right angle
stops at zero, so that one step can drop many groups; Armijo's rule on the true objective keeps the
method honest.

For losses other than the squared error block steps minimise the quadratic majoriser with ``h_i = s_i
curvature``, which needs no new eigenvectors when the prediction changes; Newton's method uses the true
second derivatives.

References: Yang and Hastie, 2024 (block steps); Tseng and Yun, Math. Prog. 2009 (block descent with an
Armijo rule); Li, Sun and Toh, SIAM J. Optim. 2018.
"""

from __future__ import annotations

import copy

import numpy as np
from scipy.linalg import LinAlgError
from scipy.linalg.blas import dsyrk

from .block_step import BlockSteps
from .manifold import BySamples, ByWeights, Inverse
from .manifold_products import ByProducts
from .operators import Masked
from .program import Program
from .screening import group_norms

__all__ = ["Kept", "Restricted", "norms"]

#: Unknowns of the largest Newton system.
LARGEST = 6000
#: Block steps are taken for active groups whose gradient is at least this part of beta; Newton does the
#: rest.
ROUGH = 0.03
#: How many groups may enter in one sweep, as a part of those active, and at least. Of a crowd that all
#: want to enter, the first make most of the others' wish go away.
ENTER, ENTER_LEAST = 1.0, 12
#: Newton steps between two sweeps; block steps and Newton steps in turn, at most.
NEWTON_STEPS, ROUNDS = 8, 60
#: A full Newton step that promises less than `NEAR` of the objective is polished, at most `POLISH` times,
#: while each promises less than `CHORD` of what the one before did.
NEAR, POLISH, CHORD = 1e-4, 4, 0.5
#: Groups that get a block step each time, at most, and how far beyond the median of all they are off.
FAR_OFF, OFF = 4, 10.0
#: More sweeps in a row at most, where Newton steps are expensive; the price of a block step apart from its
#: products, in multiplications.
SWEEPS, STEP_COST = 5, 1_000_000
#: Newton steps between two sweeps leave this part of the gap, or what is asked for.
ROUND = 0.3
#: How often blocks of Newton's matrix are used, about, while second derivatives stay what they are.
USES = 5.0


def norms(W: np.ndarray) -> np.ndarray:
    """Euclidean norms of the rows of W (groups, d), shape (groups,)."""
    return np.sqrt(np.einsum("gd,gd->g", W, W))


class Kept:
    """A program in NumPy, with what is computed for it only once: eigenvectors, Gram blocks, kernel.

    None of these depends on the strength of the penalty or on the targets: :meth:`of` takes them over from
    the last program with the same operator, loss and weights, such as the one before on a path.

    Parameters
    ----------
    program : Program
        With a :class:`~cvxnn.operators.Masked` operator of float64 NumPy arrays.
    """

    def __init__(self, program: Program) -> None:
        operator = program.operator
        assert isinstance(operator, Masked)
        self.program, self.operator = program, operator
        self.majorant = program.loss.curvature * program.weights
        self._root = np.sqrt(self.majorant)[:, None] * operator.X
        self.steps = BlockSteps(self._quadratic, program.beta)
        self.by_weights = ByWeights(operator, program.beta)
        self.by_products = ByProducts(operator, self.steps)
        self._by_samples: BySamples | None = None
        self.lengths = group_norms(operator, self.majorant)

    @classmethod
    def of(cls, program: Program) -> Kept:
        """Return what is kept of a program's operator, at this program's strength and targets."""
        assert isinstance(program.operator, Masked)
        notes = program.operator.notes
        kept = notes.get("restricted")
        if (
            not isinstance(kept, Kept)
            or kept.program.loss.curvature != program.loss.curvature
            or not np.array_equal(kept.program.weights, program.weights)
        ):
            kept = notes["restricted"] = cls(program)
            return kept
        kept = notes["restricted"] = copy.copy(kept)
        kept.program = program
        kept.steps = kept.steps.at(program.beta)
        kept.by_weights = kept.by_weights.at(program.beta)
        kept.by_products = kept.by_products.at(kept.steps)
        if kept._by_samples is not None:
            kept._by_samples = kept._by_samples.at(program.beta)
        return kept

    @property
    def by_samples(self) -> BySamples:
        """The n x n form, made when it is first needed: it holds two n x n matrices."""
        if self._by_samples is None:
            self._by_samples = BySamples(self.operator, self.program.beta)
        return self._by_samples

    @property
    def pass_cost(self) -> float:
        """Multiplications of one product with all groups."""
        return float(np.prod(self.operator.shape))

    def _quadratic(self, group: int) -> np.ndarray:
        """``F_g' diag(h) F_g`` for the majorant h, shape (d, d)."""
        # only the samples that the pattern lets pass, and one triangle: a quarter of the products
        F = self._root[np.flatnonzero(self.operator.pattern(group))]
        lower = dsyrk(1.0, F.T, lower=True) if len(F) else np.zeros((F.shape[1],) * 2)
        return lower + np.tril(lower, -1).T

    def value(self, f: np.ndarray, W: np.ndarray) -> float:
        """The objective at weights `W` (any groups, d) with prediction `f` (n,)."""
        p = self.program
        return p.loss.value(f, p.target, p.weights) + p.beta * float(np.sum(norms(W)))

    def slope(self, f: np.ndarray) -> np.ndarray:
        """The gradient of the loss in the prediction, shape (n,)."""
        return self.program.loss.gradient(f, self.program.target, self.program.weights)

    def refit(self, f: np.ndarray) -> float:
        """What to add to the intercept; 0 where there is none."""
        p = self.program
        return p.loss.intercept(f, p.target, p.weights) if p.intercept else 0.0

    def gap(self, f: np.ndarray, W: np.ndarray, Z: np.ndarray, prices: np.ndarray) -> tuple[float, float]:
        """The duality gap over groups with these prices at Z, and the scale that makes Z feasible."""
        p, top = self.program, float(np.max(prices, initial=0.0))
        limit = p.beta / top if top > 0.0 else float("inf")
        scale = p.loss.best_scale(Z, p.target, p.weights, limit)
        return self.value(f, W) - p.loss.dual(scale * Z, p.target, p.weights), scale


class Restricted:
    """Some groups of a program, with weights that are improved in place.

    Parameters
    ----------
    kept : Kept
    groups : ndarray of int, shape (k,)
        Ascending.
    W : ndarray of shape (k, d)
    c : float
        The intercept.
    f : ndarray of shape (n,)
        The prediction, intercept included.
    """

    def __init__(self, kept: Kept, groups: np.ndarray, W: np.ndarray, c: float, f: np.ndarray) -> None:
        self.kept, self.groups = kept, groups
        self.operator = kept.operator.take(groups)
        self.W, self.c, self.f = W.copy(), c, f.copy()
        self.tau = 0.0
        self.gap = float("inf")

    def solve(self, target: float) -> bool:
        """Improve until the duality gap of these groups is at most `target`.

        Returns
        -------
        bool
            Whether anything moved.
        """
        kept, moved, thorough = self.kept, False, False
        least, since = float("inf"), 0
        for _ in range(ROUNDS):
            shift = kept.refit(self.f)
            self.c, self.f = self.c + shift, self.f + shift
            G = self._gradient()
            gap = kept.gap(self.f, self.W, kept.program.residual(self.f), norms(G))[0]
            self.gap = gap
            since = 0 if gap < 0.9 * least else since + 1
            least = min(least, gap)
            if gap <= target or since > 8:
                break
            swept = self.sweep(G, thorough)
            for _ in range(self._affordable(swept)):
                if not self.sweep(self._gradient(), True):
                    break
            steps = self.newton(0.1 * max(target, ROUND * gap))
            moved = moved or swept > 0 or steps > 0
            if thorough and not (swept or steps):
                break
            # what is left to do may hide in groups that were left to Newton's method
            thorough = steps == 0 or since > 2
        return moved

    def _gradient(self) -> np.ndarray:
        """The gradient of the loss in the weights, shape (k, d); balanced if there is an intercept."""
        return -self.operator.adjoint(self.kept.program.residual(self.f))

    def _affordable(self, swept: int) -> int:
        """How many more sweeps over all active groups cost less than half a Newton step."""
        n, d = self.operator.X.shape
        at = np.flatnonzero(np.any(self.W != 0.0, axis=1))
        newton = self.step_cost()
        # a thorough sweep steps on all active groups, however few the last one changed
        sweep = max(swept, len(at)) * (STEP_COST + 3 * n * d) + n * d * len(self.W)
        return int(min(SWEEPS, 0.5 * newton / sweep)) if swept and np.isfinite(newton) else 0

    def sweep(self, G: np.ndarray, thorough: bool) -> int:
        """Take exact block steps where Newton's method cannot help; return how many changed a group.

        Parameters
        ----------
        G : ndarray of shape (k, d)
            Gradient of the loss in the weights.
        thorough : bool
            Step on all active groups.
        """
        beta = self.kept.program.beta
        sizes, prices = norms(self.W), norms(G)
        active = sizes > 0.0
        U = self.W / np.where(active, sizes, 1.0)[:, None]
        rough = active if thorough else active & (norms(G + beta * U) > ROUGH * beta)
        enter = np.flatnonzero(~active & (prices > beta))
        most = max(ENTER_LEAST, int(ENTER * np.sum(active)))
        enter = enter[np.argsort(-prices[enter], kind="stable")][:most]
        return self._block_steps(np.sort(np.concatenate([np.flatnonzero(rough), enter])))

    def _block_steps(self, chosen: np.ndarray) -> int:
        """Minimise exactly over one group after the other; return how many of those chosen moved."""
        kept, beta = self.kept, self.kept.program.beta
        X, slope, changed = self.operator.X, kept.slope(self.f), 0
        for j in chosen.tolist():
            w, mask = self.W[j], self.operator.pattern(j)
            g = (mask * slope) @ X
            if float(g @ g) <= beta * beta and not w.any():
                continue
            move = kept.steps(int(self.groups[j]), w, g) - w
            if not move.any():
                continue
            self.f += mask * (X @ move)
            self.W[j] = w + move
            slope = kept.slope(self.f)
            changed += 1
        return changed

    def newton(self, target: float) -> int:
        """Take Newton steps on the active groups until one promises less than `target`; return how many.

        Near a solution every full step is polished, see :meth:`_polish`.
        """
        for k in range(NEWTON_STEPS):
            at = np.flatnonzero(np.any(self.W != 0.0, axis=1))
            if not len(at):
                return k
            operator = self.operator.take(at)
            while True:
                inverse, exact = self._factor(at)
                promise, length = self._move(at, operator, inverse)
                tau, self.tau = self.tau, _damping(self.tau, length)
                if length > 0.0 or tau == 1.0:
                    break
            if length == 0.0:
                return k
            near = promise < NEAR * abs(self.kept.value(self.f, self.W[at]))
            if length == 1.0 and tau == 0.0 and near and exact:
                promise = self._polish(at, operator, inverse, promise, target)
            if promise < target and tau == 0.0:
                return k + 1
        return NEWTON_STEPS

    def _polish(
        self, at: np.ndarray, operator: Masked, inverse: Inverse, promise: float, target: float
    ) -> float:
        """Go on from a Newton step with its factor, which costs little; return what the last step promised.

        A step with the same factor makes the order of convergence three. What a Newton step leaves then is
        in a few groups of small norm, which it has turned further than its model reaches: these first get
        block steps, which are exact for one group.
        """
        kept, beta = self.kept, self.kept.program.beta
        for k in range(POLISH):
            W = self.W[at]
            sizes = norms(W)
            if not np.all(sizes > 0.0):
                break
            G = operator.adjoint(kept.slope(self.f))
            # about the part of the objective by which prices above beta lower the bound
            above = float(np.max(norms(G))) / beta - 1.0
            if k and above * abs(kept.value(self.f, W)) < 0.5 * target:
                break
            off = norms(G + (beta / sizes)[:, None] * W)
            worst = np.argsort(-off)[:FAR_OFF]
            worst = worst[off[worst] > max(OFF * float(np.median(off)), 1e-9 * beta)]
            self._block_steps(at[np.sort(worst)])
            if not np.all(np.any(self.W[at] != 0.0, axis=1)):
                break
            before = promise
            promise, length = self._move(at, operator, inverse)
            if length < 1.0 or promise > CHORD * before:
                break
        return promise

    def _move(self, at: np.ndarray, operator: Masked, inverse: Inverse) -> tuple[float, float]:
        """Step along minus the inverse times the gradient; return what that promises, and its length."""
        p, W = self.kept.program, self.W[at]
        slope = self.kept.slope(self.f)
        g = operator.adjoint(slope) + (p.beta / norms(W))[:, None] * W
        e = float(np.sum(slope)) if p.intercept else None
        move, shift = inverse(-g, None if e is None else -e)
        promise = -float(np.sum(g * move)) - (e or 0.0) * shift
        return promise, self._search(at, operator, move, shift, promise) if promise > 0.0 else 0.0

    def _factor(self, at: np.ndarray) -> tuple[Inverse, bool]:
        """Newton's system in its cheapest form, and whether it is factored; zero if there is none."""
        kept, p, groups = self.kept, self.kept.program, self.groups[at]
        h = p.loss.hessian(self.f, p.target, p.weights)
        costs = self._costs(at)
        form = min(costs, key=lambda name: costs[name])
        if np.isfinite(costs[form]):
            system: ByProducts | ByWeights | BySamples = kept.by_products
            if form != "products":
                system = kept.by_samples if form == "samples" else kept.by_weights
            try:
                return system.factor(groups, h, self.W[at], p.intercept, self.tau), form != "products"
            except LinAlgError:
                pass
        return lambda r, total: (np.zeros_like(r), 0.0), False

    def step_cost(self) -> float:
        """About how many multiplications a Newton step takes; inf where there can be none."""
        return min(self._costs(np.flatnonzero(np.any(self.W != 0.0, axis=1))).values())

    def _costs(self, at: np.ndarray) -> dict[str, float]:
        """About how many multiplications each form of Newton's system takes; inf where it is too large."""
        n, k, d = len(self.f), len(at), self.W.shape[1]
        p = self.kept.program
        h = p.loss.hessian(self.f, p.target, p.weights)
        # blocks for second derivatives that do not change are there for the next steps as well
        uses = USES if np.array_equal(h, self.kept.majorant) else 1.0
        weights = self.kept.by_weights.cost(self.groups[at], h, uses)
        return {
            "products": self.kept.by_products.cost(k),
            "weights": weights if k * d <= LARGEST else float("inf"),
            "samples": BySamples.cost(n, k) if n <= LARGEST else float("inf"),
        }

    def _search(
        self, at: np.ndarray, operator: Masked, move: np.ndarray, shift: float, promise: float
    ) -> float:
        """Armijo's rule: return the length of the step taken, 0 if none.

        A group whose weights would turn round stops at zero.
        """
        W, value = self.W[at], self.kept.value
        change, start = operator.apply(move) + shift, value(self.f, self.W[at])
        t = 1.0
        for _ in range(30):
            V, f = W + t * move, self.f + t * change
            turned = np.einsum("kd,kd->k", W, V) <= 0.0
            if np.any(turned):
                f = f - operator.take(np.flatnonzero(turned)).apply(V[turned])
                V[turned] = 0.0
            # differences of objectives below this are rounding
            if value(f, V) <= start - 1e-4 * t * promise + 1e-14 * abs(start):
                self.W[at], self.f, self.c = V, f, self.c + t * shift
                return t
            t *= 0.5
        return 0.0


def _damping(tau: float, length: float) -> float:
    """More damping after short steps, the most after a failure, less after full ones."""
    if length == 0.0:
        return 1.0
    if length < 0.25:
        return min(1.0, max(10.0 * tau, 1e-3))
    return 0.1 * tau if length == 1.0 and tau > 1e-4 else tau if length < 1.0 else 0.0
