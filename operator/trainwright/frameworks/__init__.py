"""What each framework needs to be told, behind one small protocol."""

from __future__ import annotations

from trainwright.api.spec import FrameworkName
from trainwright.frameworks.base import Framework, Identity
from trainwright.frameworks.horovod import Horovod
from trainwright.frameworks.jax import Jax
from trainwright.frameworks.none import NoFramework
from trainwright.frameworks.sklearn import Sklearn
from trainwright.frameworks.tensorflow import TensorFlow
from trainwright.frameworks.torch import Torch

__all__ = ["Framework", "Identity", "framework"]

_FRAMEWORKS: dict[FrameworkName, Framework] = {
    FrameworkName.TORCH: Torch(),
    FrameworkName.TENSORFLOW: TensorFlow(),
    FrameworkName.HOROVOD: Horovod(),
    FrameworkName.JAX: Jax(),
    FrameworkName.SKLEARN: Sklearn(),
    FrameworkName.NONE: NoFramework(),
}


def framework(name: FrameworkName) -> Framework:
    """The framework of that name; every name of the API has one."""
    return _FRAMEWORKS[name]
