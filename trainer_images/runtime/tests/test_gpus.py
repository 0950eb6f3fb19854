"""What is said of GPUs, by a stand-in for NVML: no machine of the project's has the library's other half, the driver.

The names that are called are checked against the real module.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from trainwright_runtime.launch.gpus import read_gpus
from trainwright_runtime.metrics import GPU_METRICS, render

CARDS = [{"uuid": f"GPU-{number}", "used": number * 2**30, "busy": 25 * number} for number in range(4)]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four GPUs; the last can't tell its memory."""

    def memory(card: dict[str, Any]) -> Any:
        if card is CARDS[3]:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(used=card["used"], total=80 * 2**30)

    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(CARDS),
        "nvmlDeviceGetHandleByIndex": lambda index: CARDS[index],
        "nvmlDeviceGetHandleByUUID": lambda uuid: next(card for card in CARDS if card["uuid"] == uuid),
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetUtilizationRates": lambda card: SimpleNamespace(gpu=card["busy"]),
    }.items():
        monkeypatch.setattr(pynvml, name, answer)  # an unknown name is an error


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("visible", "used"),
    [
        pytest.param(None, [0, 1, 2, None], id="all of the container"),
        pytest.param("GPU-2,GPU-1", [2, 1], id="by UUID"),
        pytest.param("1", [1], id="by number"),
        pytest.param("", [], id="none"),
    ],
)
def test_the_gpus_of_the_pod(monkeypatch: pytest.MonkeyPatch, visible: str | None, used: list[int | None]) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = read_gpus()
    assert [one["gpu"] for one in found] == list(range(len(used)))
    assert [one.get("memoryUsed") for one in found] == [None if count is None else count * 2**30 for count in used]


@pytest.mark.usefixtures("driver")
def test_they_are_on_the_worker_s_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    page = render([], read_gpus()).decode()
    assert 'trainwright_gpu_utilization_ratio{gpu="0"} 0.25' in page
    assert all(f"{metric.name}{{" in page for metric in GPU_METRICS)


def test_a_machine_without_a_driver_has_none() -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        assert read_gpus() == []
    else:
        pynvml.nvmlShutdown()
        assert read_gpus()
