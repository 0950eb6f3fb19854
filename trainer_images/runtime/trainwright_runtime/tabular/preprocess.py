"""Numbers scaled and words one-hot encoded, by scikit-learn's own transformers, which learn from the training part only."""

from __future__ import annotations

from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from trainwright_runtime.tabular.data import TabularData


def preprocessor(data: TabularData, *, scale: bool) -> Any:
    """An unfitted ColumnTransformer: a DataFrame with the data's features goes in, (rows, encoded features) float64 comes out.

    A word that the training part didn't have is encoded as none of those it had.
    """
    steps = [("impute", SimpleImputer(strategy="median", keep_empty_features=True))]
    numbers = Pipeline([*steps, ("scale", StandardScaler())] if scale else steps)
    words = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = [("numeric", numbers, list(data.numeric)), ("categorical", words, list(data.categorical))]
    return ColumnTransformer([one for one in columns if one[2]], verbose_feature_names_out=False)
