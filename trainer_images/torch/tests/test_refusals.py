"""What the torch image refuses, in words that say what it would take."""

from __future__ import annotations

import pytest
import torch

from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import RankEnvironment
from trainwright_runtime.torch.configured import choose_device
from trainwright_runtime.torch.images import build


def test_an_unknown_model_is_refused_with_those_near_it() -> None:
    with pytest.raises(InvalidConfig, match="'resnet81', which is no model of torchvision's; near it: resnet18"):
        build("resnet81", channels=3, classes=2, dropout=0.0)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidConfig, match="this worker has 0 GPUs for 1 ranks"):
        choose_device("cuda", RankEnvironment())
    assert choose_device("auto", RankEnvironment()).type == "cpu"
