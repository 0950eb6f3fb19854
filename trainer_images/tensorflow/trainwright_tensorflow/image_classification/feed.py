"""Images on their way to the replicas."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from trainwright_runtime.images.data import Floats, Images, Labels
from trainwright_tensorflow.replicas import Replicas


class Kept:
    """Images that stay in memory once they have been decoded."""

    def __init__(self, images: Images, shape: tuple[int, int, int]) -> None:
        self._images = images
        # Pages of it are only there when something has been written to them.
        self._pixels = np.empty((len(images), *shape), dtype=np.float32)
        self._labels = np.empty(len(images), dtype=np.int64)
        self._is_here = np.zeros(len(images), dtype=bool)

    def __len__(self) -> int:
        return len(self._images)

    def take(self, indices: Sequence[int]) -> tuple[Floats, Labels]:
        chosen = np.asarray(indices, dtype=np.int64)
        missing = chosen[~self._is_here[chosen]]
        if len(missing):
            self._pixels[missing], self._labels[missing] = self._images.take(missing.tolist())
            self._is_here[missing] = True
        return self._pixels[chosen], self._labels[chosen]


def batches(images: Images, index_lists: Sequence[list[int]], *, loader_workers: int) -> Iterator[tuple[Floats, Labels]]:
    """The images of each list of indices, in that order; decoded ahead by this many threads, or when asked for with 0.

    By threads of our own: tf.data decodes with one, whatever it is told, as soon as operations have to be deterministic.
    """
    if not loader_workers:
        yield from map(images.take, index_lists)
        return
    with ThreadPoolExecutor(loader_workers, thread_name_prefix="trainwright-loader") as pool:
        ahead: collections.deque[Future[tuple[Floats, Labels]]] = collections.deque()
        for indices in index_lists:
            ahead.append(pool.submit(images.take, indices))
            if len(ahead) > 2 * loader_workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def evaluation_shares(size: int, *, batch: int, replicas: Replicas) -> Iterator[list[tuple[list[int], int]]]:
    """For each step of an evaluation, and for each replica that is here: indices, and how many of them count.

    All replicas take equally many steps; one that has nothing left takes an image along that doesn't count.
    """
    longest = -(-size // replicas.total)
    for at in range(0, longest, batch):
        shares = [list(range(replica, size, replicas.total))[at : at + batch] for replica in replicas.here]
        yield [(share or [0], len(share)) for share in shares]
