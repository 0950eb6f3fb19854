"""What NVML says of this pod's GPUs: asked when somebody scrapes, by the launcher, so that no rank is disturbed."""

from __future__ import annotations

import os
import threading
from typing import Any

import pynvml

_lock = threading.Lock()


def read_gpus() -> list[dict[str, Any]]:
    """A record for each GPU that this pod may use: `gpu` (its place among them), `utilization` (0 to 1), `memoryUsed` and
    `memory` (bytes). Empty where there is no driver; what a GPU can't say (a slice of one, for instance) is left out.
    """
    with _lock:
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return []
        try:
            return [{"gpu": place, **_facts(handle)} for place, handle in enumerate(_visible())]
        except pynvml.NVMLError:
            return []
        finally:
            pynvml.nvmlShutdown()


def _visible() -> list[Any]:
    """In a container all that the driver shows; on a machine that several pods share, those named for this one."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    words = [word.strip() for word in named.split(",") if word.strip()]
    by_index, by_uuid = pynvml.nvmlDeviceGetHandleByIndex, pynvml.nvmlDeviceGetHandleByUUID
    return [by_index(int(word)) if word.isdigit() else by_uuid(word) for word in words]


def _facts(handle: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        facts |= {"memoryUsed": int(memory.used), "memory": int(memory.total)}
        facts["utilization"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except pynvml.NVMLError:
        pass
    return facts
