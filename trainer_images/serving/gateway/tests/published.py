"""Versions as a publisher leaves them, of a model that is a line of numpy; and what clients and servers of each protocol say."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "churn"
CLASSES = ["no", "yes"]
COLORS = ["", "blue", "red"]


def logits(numbers: Any, codes: Any, version: int = 1) -> Any:
    """The model: of two numbers and the code of a color. Versions differ by a little."""
    there = np.nan_to_num(np.asarray(numbers, dtype=np.float64).reshape(-1, 2), nan=0.5)
    score = there @ np.array([1.0, -2.0]) + 0.3 * np.asarray(codes).reshape(-1) + 0.001 * version
    return np.stack([-score, score], axis=1)


def rows(count: int, seed: int = 0, shift: float = 0.0) -> tuple[list[list[float]], list[str]]:
    """Numbers `age` and `income`, and a word `color`, of so many rows."""
    chance = np.random.default_rng(seed)
    numbers = np.stack([chance.normal(shift, 1, count), chance.exponential(1, count)], axis=1)
    return numbers.tolist(), chance.choice(["blue", "red"], count, p=[0.7, 0.3]).tolist()


def numeric(values: Any) -> dict[str, Any]:
    """A histogram as trainers make it."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 21)))
    return {"kind": "numeric", "edges": edges.tolist(), "counts": np.histogram(values, edges)[0].tolist(), "missing": 0}


def manifest_of(server: str) -> dict[str, Any]:
    """Of the model over 2,000 rows of training."""
    numbers, words = rows(2000, seed=1)
    table = np.asarray(numbers)
    codes = [COLORS.index(one) for one in words]
    picked = [CLASSES[at] for at in logits(numbers, codes).argmax(axis=1)]
    columns = {"numbers": ["age", "income"], "words": {"color": COLORS}}
    inputs = {
        "sklearn": [("age", "float64", [-1]), ("income", "float64", [-1]), ("color", "string", [-1])],
        "torchserve": [("numbers", "float32", [-1, 2]), ("words", "int64", [-1, 1])],
        "tfserving": [("numbers", "float32", [-1, 2]), ("words", "string", [-1, 1])],
    }[server]
    outputs = (
        [("prediction", "string", [-1]), ("probabilities", "float64", [-1, 2])]
        if server == "sklearn"
        else [("logits", "float32", [-1, 2])]
    )
    return {
        "format": 1,
        "signature": {
            "inputs": [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in inputs],
            "outputs": [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in outputs],
            "classes": CLASSES,
        },
        "features": {
            "age": numeric(table[:, 0]),
            "income": numeric(table[:, 1]),
            "color": {
                "kind": "categorical",
                "counts": {one: words.count(one) for one in ("blue", "red")},
                "others": 0,
                "missing": 0,
            },
        },
        "predictions": {
            "kind": "categorical",
            "counts": {one: picked.count(one) for one in CLASSES},
            "others": 0,
            "missing": 0,
        },
        **({} if server == "sklearn" else {"columns": columns}),
    }


def inputs_of(server: str, numbers: Any, words: list[str]) -> dict[str, Any]:
    """Tensors as samples.json has them."""
    if server == "sklearn":
        return {"age": [one[0] for one in numbers], "income": [one[1] for one in numbers], "color": words}
    codes = words if server == "tfserving" else [COLORS.index(one) if one in COLORS else -1 for one in words]
    return {"numbers": numbers, "words": [[one] for one in codes]}


def body_of(server: str, numbers: Any, words: list[str]) -> dict[str, Any]:
    """What a client sends."""
    tensors = inputs_of(server, numbers, words)
    if server != "sklearn":
        return {"inputs": tensors}
    datatypes = {"age": "FP64", "income": "FP64", "color": "BYTES"}
    return {
        "inputs": [
            {"name": name, "shape": [len(data)], "datatype": datatypes[name], "data": data} for name, data in tensors.items()
        ]
    }


def path_of(server: str, model: str = MODEL) -> str:
    return {
        "tfserving": f"/v1/models/{model}:predict",
        "torchserve": f"/predictions/{model}",
        "sklearn": f"/v2/models/{model}/infer",
    }[server]


def answer_of(server: str, body: Any, version: int) -> dict[str, Any]:
    """What the server answers to a client's body; NaN where the number of a row is out of all bounds."""
    if server == "sklearn":
        found = {one["name"]: one["data"] for one in body["inputs"]}
        numbers = [[math.nan if one is None else one for one in pair] for pair in zip(found["age"], found["income"], strict=True)]
        words = found["color"]
    elif "instances" in body:
        numbers, words = [one["numbers"] for one in body["instances"]], [one["words"][0] for one in body["instances"]]
    else:
        numbers, words = body["inputs"]["numbers"], [one[0] for one in body["inputs"]["words"]]
    codes = [one if isinstance(one, int) else COLORS.index(one) if one in COLORS else -1 for one in words]
    made = logits(numbers, codes, version)
    made[np.abs(np.nan_to_num(np.asarray(numbers, dtype=float))).max(axis=1) > 1e6] = np.nan
    if server == "tfserving":
        return {"predictions": made.tolist()} if "instances" in body else {"outputs": made.tolist()}
    if server == "torchserve":
        return {"outputs": {"logits": made.tolist()}, "classes": [CLASSES[at] for at in made.argmax(axis=1)]}
    powers = np.exp(made)
    flat = (powers / powers.sum(axis=1, keepdims=True)).reshape(-1)
    return {
        "model_name": MODEL,
        "outputs": [
            {
                "name": "prediction",
                "shape": [len(made), 1],
                "datatype": "BYTES",
                "data": [CLASSES[at] for at in made.argmax(axis=1)],
            },
            {
                "name": "probabilities",
                "shape": [len(made), 2],
                "datatype": "FP64",
                "data": [None if one != one else one for one in flat.tolist()],
            },
        ],
    }


def recorded(server: str, version: int, count: int = 20) -> dict[str, Any]:
    """samples.json of a version."""
    numbers, words = rows(count, seed=7)
    numbers[3][0] = None  # type: ignore[call-overload]
    inputs = inputs_of(server, numbers, words)
    filled = [[math.nan if one is None else one for one in pair] for pair in numbers]
    answer = answer_of(server, body_of(server, filled, words), version)
    if server == "sklearn":
        labels, flat = (one["data"] for one in answer["outputs"])
        outputs: dict[str, Any] = {"prediction": labels, "probabilities": np.reshape(flat, (-1, 2)).tolist()}
    else:
        outputs = {"logits": answer["outputs"] if server == "tfserving" else answer["outputs"]["logits"]}
    return {"inputs": inputs, "outputs": outputs}


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def publish(
    models: Path, server: str, version: int, *, samples: Any = "its own", manifest: dict[str, Any] | None = None
) -> dict[str, str]:
    """Write records/N as the publisher does; returns `digest` and `record` of it."""
    folder = models / "records" / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    about = {**(manifest or manifest_of(server)), "files": {}}
    if samples is not None:
        content = json.dumps(recorded(server, version) if samples == "its own" else samples).encode()
        (folder / "samples.json").write_bytes(content)
        about["files"]["samples.json"] = {"sha256": sha256(content).removeprefix("sha256:"), "bytes": len(content)}
    about["step"] = version
    sealed = json.dumps(about).encode()
    (folder / "manifest.json").write_bytes(sealed)
    record = json.dumps({"format": 1, "version": version, "digest": sha256(sealed), "server": server}).encode()
    (folder / "record.json").write_bytes(record)
    return {"digest": sha256(sealed), "record": sha256(record)}
