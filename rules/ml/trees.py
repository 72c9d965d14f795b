"""LightGBM as it is used here: few settings, fixed, and the same result every time (pure)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from rules.ml.features import CATEGORICAL, NAMES, TRENDS, Vector

with warnings.catch_warnings():  # of the libraries that it would like to have
    warnings.simplefilter("ignore")
    import lightgbm

ROUNDS: Final = 120
LEAST_LEAF: Final = 50  # samples
SEED: Final = 7
SETTINGS: Final[dict[str, Any]] = {
    "objective": "binary",
    "num_leaves": 15,
    "min_data_in_leaf": LEAST_LEAF,
    "learning_rate": 0.05,
    "lambda_l2": 1.0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


class Trees:
    """A trained ensemble. `text` is all there is of it."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster

    @classmethod
    def read(cls, text: str) -> Trees:
        """Read the text of a model; raise ValueError for what is none."""
        try:
            return cls(lightgbm.Booster(model_str=text))
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from error

    @property
    def text(self) -> str:
        held: str = self._booster.model_to_string()
        return held

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._booster.feature_name())

    @property
    def size(self) -> int:
        """Return the number of trees."""
        count: int = self._booster.num_trees()
        return count

    def scores(self, vectors: Sequence[Vector]) -> list[float]:
        """Return a score from 0 to 1 for each vector."""
        found = self._booster.predict(np.array(vectors, float), num_threads=1)
        return [float(value) for value in found]

    def gains(self) -> dict[str, float]:
        """Return what share of the whole gain each feature brought."""
        gains = self._booster.feature_importance(importance_type="gain")
        whole = float(sum(gains)) or 1.0
        shares = ((name, float(gain) / whole) for name, gain in zip(self.names, gains, strict=True))
        return dict(sorted(shares, key=lambda pair: -pair[1]))


def grow(
    vectors: Sequence[Vector],
    filled: Sequence[bool],
    *,
    names: Sequence[str] = NAMES,
    trends: Sequence[int] = TRENDS,
    seed: int = SEED,
) -> Trees:
    """Train on vectors; the same ones always give the same trees."""
    table = lightgbm.Dataset(
        np.array(vectors, float),
        label=np.array(filled, float),
        feature_name=list(names),
        categorical_feature=list(CATEGORICAL),
        params={"verbose": -1, "min_data_in_leaf": LEAST_LEAF},
    )
    settings = {**SETTINGS, "monotone_constraints": list(trends), "seed": seed}
    return Trees(lightgbm.train(settings, table, num_boost_round=ROUNDS))
