"""The data's split and order: functions of seed and epoch alone, whoever trains on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainwright_runtime import order
from trainwright_runtime.config import InvalidConfig
from trainwright_runtime.environment import DataSource
from trainwright_runtime.gang import Gang
from trainwright_runtime.images import artifact, data
from trainwright_runtime.images.config import ImageConfig
from trainwright_runtime.images.scores import BINS, ODDS, Tally

DIGITS = (DataSource(name="train", builtin="digits"),)


@given(
    size=st.integers(1, 200),
    global_batch=st.integers(1, 64),
    micro_batch=st.none() | st.integers(1, 16),
    world_size=st.integers(1, 7),
    epoch=st.integers(0, 50),
)
def test_any_number_of_ranks_takes_the_same_samples_in_the_same_steps(
    size: int, global_batch: int, micro_batch: int | None, world_size: int, epoch: int
) -> None:
    def plan(rank: int, world_size: int, micro_batch: int | None) -> list[order.Step]:
        return order.plan_epoch(
            size,
            epoch=epoch,
            seed=1,
            start=0,
            global_batch=global_batch,
            micro_batch=micro_batch,
            rank=rank,
            world_size=world_size,
        )

    alone = plan(0, 1, None)
    assert sorted(index for step in alone for index in step.micro_batches[0]) == list(range(size))
    plans = [plan(rank, world_size, micro_batch) for rank in range(world_size)]
    for number, whole in enumerate(alone):
        shares = [plans[rank][number] for rank in range(world_size)]
        taken = [index for share in shares if not share.is_padding for micro in share.micro_batches for index in micro]
        assert sorted(taken) == sorted(whole.micro_batches[0])
        for share in shares:
            assert share.samples == whole.samples
            assert share.micro_batches, "a rank without a micro-batch would leave the others waiting"
            assert all(micro and len(micro) <= (micro_batch or global_batch) for micro in share.micro_batches)


@given(start=st.integers(0, 120), world_size=st.integers(1, 4))
def test_an_epoch_goes_on_from_any_sample(start: int, world_size: int) -> None:
    def taken(start: int, world_size: int) -> list[int]:
        plans = [
            order.plan_epoch(100, epoch=3, seed=0, start=start, global_batch=8, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        return [
            i
            for step in zip(*plans, strict=True)
            for share in step
            if not share.is_padding
            for i in sorted(share.micro_batches[0])
        ]

    assert set(taken(start, world_size)) == set(data_order(100)[start:])


def data_order(size: int) -> list[int]:
    plan = order.plan_epoch(size, epoch=3, seed=0, start=0, global_batch=size, micro_batch=None, rank=0, world_size=1)
    return plan[0].micro_batches[0] if plan else []


@given(labels=st.lists(st.integers(0, 4), max_size=300))
def test_a_split_leaves_nothing_out_and_takes_nothing_twice(labels: list[int]) -> None:
    parts = data.split(labels)
    assert sorted(index for part in parts for index in part) == list(range(len(labels)))
    for label in set(labels):
        members = labels.count(label)
        held_out = sum(labels[index] == label for index in parts[1])
        assert abs(held_out - members * data.VALIDATION_SHARE) <= 0.5, "each class in the same shares"


def test_the_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    real = load_digits()
    loaded = data.load(DIGITS, ImageConfig())
    images = np.concatenate([part.take(range(len(part)))[0] for part in (loaded.train, loaded.validation, loaded.test)])
    indices = [index for part in data.split(real.target.tolist()) for index in part]
    np.testing.assert_allclose(images.reshape(1797, 64), real.data[indices] / 16)
    assert loaded.test.take(range(len(loaded.test)))[1].tolist() == real.target[indices[-269:]].tolist()


def test_scores_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, roc_auc_score

    generator = np.random.default_rng(3)
    truth = generator.integers(0, 3, 2000)
    logits = generator.normal(size=(2000, 5)) * 3
    logits[np.arange(2000), truth] += 2
    guess, shares = logits.argmax(axis=1), np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    tally = Tally(5)
    for at in range(0, 2000, 300):
        tally.add(logits[at : at + 300].astype(np.float32), truth[at : at + 300])
    scores = tally.scores(Gang())
    assert scores.confusion == confusion_matrix(truth, guess, labels=range(5)).tolist()
    assert scores.accuracy == pytest.approx(accuracy_score(truth, guess))
    assert scores.macro_f1 == pytest.approx(f1_score(truth, guess, labels=range(5), average="macro", zero_division=0))
    assert scores.loss == pytest.approx(log_loss(truth, shares, labels=range(5)), rel=1e-5)
    for index in range(3):
        counts = scores.odds[index]
        assert counts.sum(axis=1).tolist() == [(truth != index).sum(), (truth == index).sum()]
        binned = roc_auc_score(np.repeat([0, 1], BINS), np.tile(ODDS, 2), sample_weight=counts.ravel())
        assert binned == pytest.approx(roc_auc_score(truth == index, shares[:, index]), abs=1e-3)


def test_scores_are_the_same_however_the_samples_are_shared_out() -> None:
    class Other(Gang):
        """A gang of two whose other rank has seen the same."""

        def exchange(self, value: object) -> list[object]:
            return [value, value]

    seen = Tally(3)
    seen.add([[9.0, 0, 0], [0, 200.0, -200.0], [0, 1.0, 0]], [0, 1, 2])
    alone, together = seen.scores(Gang()), seen.scores(Other(size=2))
    assert together.loss == pytest.approx(alone.loss)
    np.testing.assert_array_equal(np.array(together.confusion), 2 * np.array(alone.confusion))
    np.testing.assert_array_equal(together.odds, 2 * alone.odds)


def test_a_model_that_has_diverged_has_scores_too() -> None:
    tally = Tally(2)
    tally.add([[np.nan, np.nan], [np.inf, 0.0]], [0, 1])
    scores = tally.scores(Gang())
    assert np.isnan(scores.loss)
    assert sum(map(sum, scores.confusion)) == 2


# --- directories of images --------------------------------------------------------------------------------------------


def draw(folder: Path, count: int, *, colour: tuple[int, int, int] = (255, 0, 0)) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (20 + number, 16), colour).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("not an image")


def load(root: Path, **keys: int) -> data.ImageData:
    return data.load((DataSource(name="images", path=root),), ImageConfig(**keys))  # type: ignore[arg-type]


def test_a_folder_a_class_is_split_in_three(tmp_path: Path) -> None:
    draw(tmp_path / "cat", 20)
    draw(tmp_path / "dog", 20, colour=(0, 255, 0))
    loaded = load(tmp_path, image_size=12)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (28, 6, 6)
    assert loaded.classes == ("cat", "dog")
    assert loaded.shape == (12, 12, 3)
    images, labels = loaded.train.take(range(len(loaded.train)))
    assert images.shape == (len(loaded.train), 12, 12, 3)
    for image, label in zip(images, labels, strict=True):
        assert image[0, 0].tolist() == ([1.0, 0.0, 0.0] if label == 0 else [0.0, 1.0, 0.0])


def test_parts_that_are_there_are_taken_as_they_are(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("val", 4), ("test", 6)):
        draw(tmp_path / part / "cat", count)
        draw(tmp_path / part / "dog", count)
    loaded = load(tmp_path, image_channels=1)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (40, 8, 12)
    assert loaded.shape == (64, 64, 1)


def test_a_part_that_is_missing_is_split_off_training(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 6)):
        draw(tmp_path / part / "cat", count)
        draw(tmp_path / part / "dog", count)
    loaded = load(tmp_path)
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (34, 6, 12)


def test_two_versions_of_the_data_have_two_fingerprints(tmp_path: Path) -> None:
    draw(tmp_path / "cat", 20)
    draw(tmp_path / "dog", 20)
    before = load(tmp_path).fingerprint
    assert load(tmp_path).fingerprint == before
    (tmp_path / "cat/0.png").unlink()
    assert load(tmp_path).fingerprint != before


def test_a_test_part_is_known_by_its_images_alone(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 5)):
        for name in ("cat", "dog"):
            draw(tmp_path / part / name, count)
    before = load(tmp_path).fingerprint
    (tmp_path / "train/cat/0.png").unlink()
    after = load(tmp_path).fingerprint
    assert (after["sha256"] != before["sha256"], after["test"] == before["test"]) == (True, True)
    (tmp_path / "test/cat/0.png").unlink()
    assert load(tmp_path).fingerprint["test"] != before["test"]


@pytest.mark.parametrize(("shape", "count"), [((8, 8, 1), 20), ((64, 64, 3), 20), ((224, 224, 3), 1), ((512, 512, 3), 0)])
def test_samples_of_images_stay_small(tmp_path: Path, shape: tuple[int, int, int], count: int) -> None:
    few = data.ImagesInMemory(np.random.default_rng(0).random((30, *shape), dtype=np.float32), np.zeros(30, dtype=np.int64))
    images = data.ImageData(train=few, validation=few, test=few, classes=("a", "b"), shape=shape, fingerprint={})
    seen = []

    def answer(pixels: data.Floats) -> data.Floats:
        seen.append(pixels)
        return pixels.reshape(len(pixels), -1)[:, :2]

    files = artifact._samples(images, answer, channels_first=True)
    assert len(files) == min(1, count)
    for write in files.values():
        with (tmp_path / "samples.json").open("wb") as stream:
            write(stream)
        samples = json.loads((tmp_path / "samples.json").read_text())
        given = np.array(samples["inputs"]["images"], dtype=np.float32)
        assert given.shape == (len(given), shape[2], *shape[:2])
        assert 0 < len(given) <= count
        assert (given == seen[0]).all(), "the answers are to what stands in the file"
        assert (tmp_path / "samples.json").stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "does not exist"),
        (lambda root: draw(root / "cat", 20), "has 1 folders with images; at least two classes"),
        (lambda root: (draw(root / "cat", 2), draw(root / "dog", 2)), "too few images for a val part"),
        (
            lambda root: (draw(root / "train/a", 20), draw(root / "train/b", 20), draw(root / "val/c", 2)),
            "has a folder 'c', which the training part lacks",
        ),
    ],
    ids=["no folder", "one class", "too few", "a class only in validation"],
)
def test_a_directory_that_cannot_be_used_is_refused(tmp_path: Path, make: object, message: str) -> None:
    root = tmp_path / "images"
    make(root)  # type: ignore[operator]
    with pytest.raises(InvalidConfig, match=message):
        load(root)


# --- what else is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "keys", "message"),
    [
        (DIGITS, {"image_size": 32}, "key 'image_size' has no effect with builtin: digits"),
        ((DataSource(name="a", builtin="mnist"),), {}, "builtin: mnist; accepted: digits"),
        ((DataSource(name="a", builtin="digits"), DataSource(name="b", builtin="digits")), {}, "or a single one; there are a, b"),
    ],
    ids=["a key for other data", "unknown data", "which of two"],
)
def test_data_that_is_not_clear_is_refused(sources: tuple[DataSource, ...], keys: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        data.load(sources, ImageConfig(**keys))  # type: ignore[arg-type]
