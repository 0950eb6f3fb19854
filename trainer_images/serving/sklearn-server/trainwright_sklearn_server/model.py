"""The published pipeline as a model of MLServer's: loaded once in each worker, asked in batches."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import json
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import skops.io
from mlserver import MLModel, types
from mlserver.errors import InferenceError, MLServerError

from trainwright_runtime.exits import say
from trainwright_runtime.sealed import MANIFEST
from trainwright_runtime.serving.record import Layout, require, require_content
from trainwright_sklearn_server.columns import BadRequest, outputs_of, table_of

PR_SET_PDEATHSIG = 1
INTERNAL_ERROR = 500


def load_pipeline(layout: Layout, *, version: int, expected: str) -> Any:
    """The pipeline of a version, once its files are known to be the publisher's. Raises NotWhatWasPublished, OSError, and what
    the loader raises.

    Both forms may run code as they are loaded: so each is read once, and what was compared with the record is what is loaded.
    """
    record = require(layout, version=version, server="sklearn", expected=expected)
    (name,) = record.files
    content = (layout.version(version) / name).read_bytes()
    require_content(name, content, record)
    if name == "model.skops":
        types_in_it = skops.io.get_untrusted_types(data=content)
        if types_in_it:
            say(f"{name} has types that skops doesn't know, and the publisher wrote it: {', '.join(types_in_it)}")
        return skops.io.loads(content, trusted=types_in_it)
    return joblib.load(io.BytesIO(content))


_Asked = tuple[Any, asyncio.Future[list[dict[str, Any]]]]
"""The table of one request, and where its answer is awaited."""


class PublishedPipeline(MLModel):  # type: ignore[misc]
    """Requests that come within the batch's delay are asked together; what is wrong with one is told to that one only."""

    async def load(self) -> bool:
        if multiprocessing.parent_process() is not None:
            # A worker of a server that is killed outright would wait for work for ever.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        settings = self._settings.parameters.extra
        layout, version = Layout(Path(settings["models"])), int(settings["version"])
        self._pipeline = load_pipeline(layout, version=version, expected=settings["record"])
        manifest = json.loads((layout.record(version) / MANIFEST).read_bytes())
        self._signature = manifest["signature"]["inputs"]
        self._batch_size, self._delay = int(settings["batch_size"]), float(settings["batch_delay"]) / 1000
        self._waiting: list[_Asked] = []
        self._enough = asyncio.Event()
        self._answering: asyncio.Task[None] | None = None
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        try:
            table = table_of(payload.inputs, self._signature)
        except BadRequest as fault:
            raise InferenceError(str(fault)) from None
        outputs = await self._answer(table)
        return types.InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            id=payload.id,
            outputs=[types.ResponseOutput(**one) for one in outputs],
        )

    async def _answer(self, table: Any) -> list[dict[str, Any]]:
        answer: asyncio.Future[list[dict[str, Any]]] = asyncio.get_running_loop().create_future()
        self._waiting.append((table, answer))
        if len(self._waiting) >= self._batch_size:
            self._enough.set()
        # In a task of its own: a client that leaves must not take the others of its batch along.
        if self._answering is None or self._answering.done():
            self._answering = asyncio.create_task(self._answer_all())
        return await answer

    async def _answer_all(self) -> None:
        while self._waiting:
            if self._delay and len(self._waiting) < self._batch_size:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._enough.wait(), self._delay)
            batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
            if len(self._waiting) < self._batch_size:
                self._enough.clear()
            await self._ask(batch)

    async def _ask(self, batch: list[_Asked]) -> None:
        """Answers all of them; one that fails makes the others be asked alone."""
        tables = [table for table, _ in batch]
        try:
            answers = await asyncio.to_thread(self._predict, tables)
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    await self._ask([one])
                return
            said = f"the model failed: {type(error).__name__}: {' '.join(str(error).split())}"[:400]
            _tell(batch[0][1], MLServerError(said, INTERNAL_ERROR))
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _predict(self, tables: list[Any]) -> list[list[dict[str, Any]]]:
        whole = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
        prediction = self._pipeline.predict(whole)
        probabilities = self._pipeline.predict_proba(whole) if hasattr(self._pipeline, "predict_proba") else None
        answers, start = [], 0
        for table in tables:
            rows = slice(start, start + len(table))
            answers.append(outputs_of(prediction[rows], None if probabilities is None else probabilities[rows]))
            start += len(table)
        return answers


def _tell(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
