"""Shared by the tests of the tensorflow image: gangs of real processes."""

from __future__ import annotations

import os

# Read when TensorFlow is loaded, by this process and by those that it starts.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from launching import Gang

# Two shares of the CPU, for what needs two replicas in this process: it can be said only before anything is computed.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    """Real workers; none may be left at the end."""
    gang = Gang(tmp_path)
    yield gang
    gang.end()
