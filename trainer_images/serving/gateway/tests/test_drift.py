"""Statistics of drift beside scipy's on raw data, and the features that requests have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import numeric
from scipy import stats
from scipy.spatial.distance import jensenshannon

from trainwright_gateway import features, manifest
from trainwright_gateway.drift import BINS, LEAST, Feature

seeds = st.integers(0, 2**32 - 1)


def drift(trained, served) -> dict:
    feature = Feature(numeric(trained))
    return feature.drift(feature.places(list(served)))


@settings(max_examples=60, deadline=None)
@given(seeds, st.floats(-2, 2), st.floats(0.3, 3), st.integers(300, 3000))
def test_ks_is_that_of_the_raw_numbers_but_for_what_one_bin_holds(seed, shift, scale, count):
    chance = np.random.default_rng(seed)
    trained, served = chance.normal(0, 1, 2000), chance.normal(shift, scale, count)
    found = drift(trained, served)["ks"]
    raw = stats.ks_2samp(trained, served).statistic
    shares = np.histogram(np.clip(served, trained.min(), trained.max()), numeric(trained)["edges"])[0] / count
    assert found <= raw + 1e-9
    assert found >= raw - max(shares.max(), 0.051)


@settings(max_examples=60, deadline=None)
@given(seeds, st.floats(-2, 2), st.integers(50, 3000))
def test_psi_and_js_are_those_of_shares_in_ten_bins_of_equal_share(seed, shift, count):
    chance = np.random.default_rng(seed)
    trained, served = chance.normal(0, 1, 2000), chance.normal(shift, 1, count)
    found = drift(trained, served)
    deciles = np.quantile(trained, np.linspace(0, 1, BINS + 1))
    p = np.histogram(np.clip(served, trained.min(), trained.max()), deciles)[0] / count
    q = np.full(BINS, 1 / BINS)
    floored = np.maximum(p, LEAST)
    assert found["psi"] == pytest.approx(float(((floored - q) * np.log(floored / q)).sum()), abs=0.02)
    assert found["js"] == pytest.approx(float(jensenshannon(p, q, base=2)), abs=0.02)
    assert 0 <= found["js"] <= 1


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(200, 2000))
def test_rows_of_the_same_distribution_score_as_chance_says(seed, count):
    chance = np.random.default_rng(seed)
    found = drift(chance.gamma(2, size=3000), chance.gamma(2, size=count))
    assert found["psi"] < 6 * (BINS - 1) * (1 / count + 1 / 3000)
    assert found["missing"] == 0


def test_the_same_counts_are_no_drift_at_all_and_a_shift_is_one():
    trained = np.random.default_rng(0).normal(0, 1, 2000)
    same = drift(trained, trained)
    assert [round(same[name], 9) for name in ("psi", "ks", "js", "missing")] == [0, 0, 0, 0]
    assert drift(trained, trained + 1)["psi"] > 0.25
    outside = drift(trained, [1e6] * 100)
    assert outside["js"] > 0.5
    assert outside["ks"] == pytest.approx(0.95)


def test_missing_is_the_difference_of_shares_and_no_part_of_the_others():
    trained = np.arange(1000.0)
    found = drift(trained, [*trained, *[None] * 500, *[math.nan] * 500, *["word"] * 500])
    assert found["missing"] == pytest.approx(0.6)
    assert found["psi"] == pytest.approx(0, abs=1e-9)


def test_words_have_new_categories_and_no_ks():
    counts = {"a": 500, "b": 300, **{f"rare{number}": 1 for number in range(100)}}
    feature = Feature({"kind": "categorical", "counts": counts, "others": 100, "missing": 10})
    found = feature.drift(feature.places(["a"] * 50 + ["b"] * 20 + ["c"] * 30 + ["", None]))
    assert found["ks"] is None
    assert found["newCategories"] == pytest.approx(0.3 - 0.1)
    assert found["missing"] == pytest.approx(2 / 102 - 10 / 1010)
    p, q = np.array([0.5, 0.2, 0.3]), np.array([0.5, 0.3, 0.2])
    assert found["psi"] == pytest.approx(((p - q) * np.log(p / q)).sum())


@pytest.mark.parametrize(
    "histogram",
    [
        {"kind": "numeric", "edges": [0, 1], "counts": [1, 2]},
        {"kind": "numeric", "edges": [1, 0], "counts": [1]},
        {"kind": "numeric", "edges": [], "counts": []},
        {"kind": "pictures"},
        {},
    ],
)
def test_a_histogram_that_is_none_is_refused(histogram):
    with pytest.raises((ValueError, KeyError)):
        Feature(histogram)


def of(facts: dict, inputs: dict) -> dict:
    return features.of(inputs, manifest.parse(facts))


def test_networks_over_tables_have_features_by_place_words_or_codes():
    facts = {"columns": {"numbers": ["age", "income"], "words": {"color": ["", "blue", "red"]}}}
    rows = {"numbers": [[1.0, None], [3.0, 4.0], [5.0, 6.0]]}
    by_code = of(facts, {**rows, "words": [[2], [-1], [0]]})
    assert by_code == {"age": [1.0, 3.0, 5.0], "income": [None, 4.0, 6.0], "color": ["red", features.NEW, ""]}
    assert of(facts, {**rows, "words": [["red"], ["green"], [""]]})["color"] == ["red", "green", ""]
    with pytest.raises(ValueError, match="2 values"):
        of(facts, {"numbers": [[1.0]], "words": [[2]]})


@pytest.mark.parametrize("shape", [(1, 8, 8), (64,), (8, 8, 3)])
def test_images_have_brightness_and_contrast_as_the_trainers_take_them(shape):
    pixels = np.random.default_rng(0).random((5, *shape))
    facts = {
        "signature": {"inputs": [{"name": "images", "dtype": "float32", "shape": [-1, *shape]}]},
        "features": {"brightness": {}, "contrast": {}},
    }
    found = of(facts, {"images": pixels.tolist()})
    flat = pixels.reshape(5, -1)
    assert found["brightness"] == pytest.approx(flat.mean(1).tolist())
    assert found["contrast"] == pytest.approx(flat.std(1).tolist())
