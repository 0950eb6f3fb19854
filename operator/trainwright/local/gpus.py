"""GPUs of this machine: real ones are found by NVML and handed out one by one; pretended ones are only counted."""

from __future__ import annotations

import pynvml


def real_gpus() -> list[str]:
    """UUIDs of the GPUs that the driver knows; none where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


class Gpus:
    """Who has which GPU. `pretended` counts ones that aren't there; it is ignored where there are real ones."""

    def __init__(self, *, real: list[str], pretended: int) -> None:
        self._free = list(real)
        self._taken: dict[str, list[str]] = {}
        self.count = len(real) or pretended

    def take(self, owner: str, count: int) -> str:
        """The value of CUDA_VISIBLE_DEVICES for a pod: empty hides every GPU from it."""
        if owner not in self._taken:
            self._taken[owner], self._free = self._free[:count], self._free[count:]
        return ",".join(self._taken[owner])

    def keep(self, owner: str, devices: str) -> None:
        """Leave the owner the GPUs that it has had from an earlier agent."""
        self._taken[owner] = [device for device in devices.split(",") if device in self._free]
        self._free = [device for device in self._free if device not in self._taken[owner]]

    def release(self, owner: str) -> None:
        self._free += self._taken.pop(owner, [])
