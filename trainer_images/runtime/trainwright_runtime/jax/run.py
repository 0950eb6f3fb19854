"""A JAX training's state for `run.py`: one tree of arrays, and the caller's own plain values.

Trees are replicated: every process holds all of them. They are written as msgpack, which needs no code to be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization

from trainwright_runtime.gang import Gang
from trainwright_runtime.jax.gang import JaxGang
from trainwright_runtime.nan import holds_nan
from trainwright_runtime.run import BaseRun, NotANumber
from trainwright_runtime.sealed import Writer

TREE, STATE = "tree.msgpack", "state.msgpack"


class Run(BaseRun):
    """A training loop that can be stopped at any step and goes on from there.

    Every process makes one, after `meet`. `tree` is what the loop trains (parameters, optimizer state, …): a tree of arrays,
    which the loop replaces after each update, and `resume` fills in. `state` is a dict of plain values and numpy arrays of the
    caller's own. There is no generator to be kept: draw from keys that are folded with `steps`. Attributes to read: `steps`
    (optimizer steps taken), `epoch`, and `position` (samples of this epoch that the gang has trained on).
    """

    framework = "jax"

    def __init__(
        self,
        tree: Any,
        *,
        state: dict[str, Any] | None = None,
        total_steps: int | None = None,
        main_metric: str | None = None,
        gang: Gang | None = None,
    ) -> None:
        super().__init__(gang or JaxGang(), state=state, total_steps=total_steps, main_metric=main_metric)
        self.tree = tree

    @property
    def framework_version(self) -> str:
        return str(jax.__version__)

    def _copies(self) -> Mapping[str, Writer] | None:
        if self._gang.rank != 0:
            return None
        # Copied, because an update that donates its buffers writes over them.
        tree = copied(serialization.to_state_dict(self.tree))
        state = serialization.msgpack_serialize({"state": self.state, "facts": self._facts_now()})
        return {
            TREE: lambda stream: stream.write(_packed(tree)),
            STATE: lambda stream: stream.write(state),
        }

    def _load(self, path: Path) -> Mapping[str, Any]:
        loaded = serialization.from_state_dict(self.tree, serialization.msgpack_restore((path / TREE).read_bytes()))
        self.tree = jax.tree_util.tree_map_with_path(_placed_like, self.tree, loaded)
        rest = serialization.msgpack_restore((path / STATE).read_bytes())
        self.state.clear()
        self.state.update(rest["state"])
        facts: Mapping[str, Any] = rest["facts"]
        return facts


def _packed(tree: Any) -> bytes:
    # What is not learnt may be NaN by intention.
    learnt = {key: part for key, part in tree.items() if key.startswith("param")} if isinstance(tree, dict) else {}
    for place, leaf in jax.tree_util.tree_leaves_with_path(learnt):
        if holds_nan(leaf):
            raise NotANumber(f"the weights {jax.tree_util.keystr(place)} have become NaN")
    packed: bytes = serialization.msgpack_serialize(tree)
    return packed


def copied(tree: Any) -> Any:
    """A tree of replicated arrays as numpy arrays of its own."""
    return jax.tree.map(lambda leaf: np.array(local(leaf)), tree)


def local(leaf: Any) -> Any:
    """The whole of a replicated array, from this process's own device."""
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    if not leaf.is_fully_replicated:
        raise ValueError("an array of the tree is spread over several workers; only replicated ones can be saved")
    return leaf.addressable_data(0)


def _placed_like(place: Any, before: Any, loaded: Any) -> Any:
    """The loaded array where the one before it was."""
    shape, dtype = np.shape(before), np.asarray(local(before)).dtype
    if np.shape(loaded) != shape or np.asarray(loaded).dtype != dtype:
        found = f"{np.asarray(loaded).dtype}{np.shape(loaded)}"
        raise ValueError(f"{jax.tree_util.keystr(place)} is {found}; this training has {dtype}{shape}")
    if not isinstance(before, jax.Array):
        return loaded
    return jax.make_array_from_callback(shape, before.sharding, lambda index: loaded[index])
