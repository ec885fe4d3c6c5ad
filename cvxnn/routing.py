"""Where metadata go in cross-validation: weights to the scorer, groups to the splitter.

Without scikit-learn's metadata routing, weights reach training and the scorer. With it, they reach a scorer
that asked for them, and whatever a splitter asked for (``groups``) reaches the splitter, as in
``LogisticRegressionCV``.

Reference: scikit-learn's user guide, "Metadata Routing".
"""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)


class Routed(BaseEstimator):
    """An estimator with parameters `cv` and `scoring` that routes metadata to them."""

    #: What is compared where `scoring` is None.
    _default_scoring: str

    cv: Any
    scoring: Any

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how metadata go to the splitter and to the scorer.

        Returns
        -------
        MetadataRouter
        """
        router = (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                splitter=check_cv(self.cv),
                method_mapping=MethodMapping().add(caller="fit", callee="split"),
            )
        )
        if self.scoring is None:
            return router
        return router.add(
            scorer=self._scorer(), method_mapping=MethodMapping().add(caller="fit", callee="score")
        )

    def _routed(self, sample_weight: Any, params: dict[str, Any]) -> Bunch:
        """The keyword arguments of the splitter and of the scorer; `sample_weight` whole, as given."""
        plain = {} if sample_weight is None else {"sample_weight": sample_weight}
        if not _routing_enabled():
            _raise_for_params(params, self, "fit")
            return Bunch(splitter=Bunch(split={}), scorer=Bunch(score=plain))
        if self.scoring is not None:
            params = plain | params
        routed = process_routing(self, "fit", **params)
        scorer = routed.scorer if self.scoring is not None else Bunch(score=plain)
        return Bunch(splitter=routed.splitter, scorer=scorer)

    def _scorer(self) -> Any:
        return get_scorer(self._default_scoring if self.scoring is None else self.scoring)
