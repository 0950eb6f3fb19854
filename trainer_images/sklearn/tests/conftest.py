"""Shared by the tests of the sklearn image: gangs of real processes, and tables in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from launching import Gang

from trainwright_runtime.environment import DataSource
from trainwright_runtime.tabular.config import TabularConfig
from trainwright_runtime.tabular.data import TabularData, load


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    """Real workers; none may be left at the end."""
    gang = Gang(tmp_path)
    yield gang
    gang.end()


@pytest.fixture
def learn_from(tmp_path: Path) -> Callable[..., TabularData]:
    """Loads a table, given as a mapping of columns, from a CSV file, with the configuration's keys as keywords."""

    def loaded(table: dict[str, Any], **keys: Any) -> TabularData:
        pd.DataFrame(table).to_csv(tmp_path / "table.csv", index=False)
        return load([DataSource(name="train", path=tmp_path)], TabularConfig.model_validate({"target": "y", **keys}))

    return loaded
