"""The seam: the contract's variables become one object, and a wrong one is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainwright_runtime.environment import CheckpointPolicy, DataSource, InvalidEnvironment, RankEnvironment

CONTRACT = {
    "TRAINWRIGHT_JOB": "digits",
    "TRAINWRIGHT_NAMESPACE": "team-a",
    "TRAINWRIGHT_UID": "6f1c",
    "TRAINWRIGHT_ATTEMPT": "2",
    "TRAINWRIGHT_WORKERS": "2",
    "TRAINWRIGHT_WORKER_INDEX": "1",
    "TRAINWRIGHT_NPROC": "4",
    "TRAINWRIGHT_POD_IP": "10.1.2.3",
    "TRAINWRIGHT_WORKSPACE": "/w",
    "TRAINWRIGHT_CHECKPOINT_DIR": "/w/checkpoints",
    "TRAINWRIGHT_ARTIFACT_DIR": "/w/artifacts",
    "TRAINWRIGHT_CHECKPOINT_EVERY_STEPS": "50",
    "TRAINWRIGHT_CHECKPOINT_EVERY_SECONDS": "300",
    "TRAINWRIGHT_CHECKPOINT_KEEP": "5",
    "TRAINWRIGHT_RESUME": "Never",
    "TRAINWRIGHT_METRICS_PORT": "9400",
    "TRAINWRIGHT_CONFIG": "/etc/trainwright/config.yaml",
    "TRAINWRIGHT_DATA": '{"train": {"path": "/data/train"}, "extra": {"builtin": "digits"}}',
    "TRAINWRIGHT_STATUS_DIR": "/tmp/status",
    "MASTER_ADDR": "digits-worker-0",
    "MASTER_PORT": "29501",
    "RANK": "6",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "2",
    "LOCAL_WORLD_SIZE": "4",
}


def test_every_variable_of_the_contract_is_read() -> None:
    assert RankEnvironment.read(CONTRACT) == RankEnvironment(
        rank=6,
        local_rank=2,
        world_size=8,
        local_world_size=4,
        master_addr="digits-worker-0",
        master_port=29501,
        job="digits",
        namespace="team-a",
        uid="6f1c",
        attempt=2,
        workers=2,
        worker_index=1,
        nproc=4,
        pod_ip="10.1.2.3",
        metrics_port=9400,
        workspace=Path("/w"),
        artifact_dir=Path("/w/artifacts"),
        checkpoint=CheckpointPolicy(
            directory=Path("/w/checkpoints"), every_steps=50, every_seconds=300.0, keep=5, resume="Never"
        ),
        config=Path("/etc/trainwright/config.yaml"),
        data=(DataSource(name="train", path=Path("/data/train")), DataSource(name="extra", builtin="digits")),
        status_dir=Path("/tmp/status"),
    )


def test_outside_of_a_pod_a_program_is_the_only_rank() -> None:
    alone = RankEnvironment.read({})
    assert (alone.rank, alone.world_size, alone.is_main) == (0, 1, True)
    assert alone.checkpoint.directory is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "x"}, "RANK='x'"),
        ({"RANK": "-1"}, "RANK=-1 must be at least 0"),
        ({"RANK": "8"}, "RANK=8 must be less than WORLD_SIZE=8"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK=4 must be less than LOCAL_WORLD_SIZE=4"),
        ({"TRAINWRIGHT_WORKER_INDEX": "2"}, "TRAINWRIGHT_WORKER_INDEX=2 must be less than TRAINWRIGHT_WORKERS=2"),
        ({"TRAINWRIGHT_CHECKPOINT_EVERY_STEPS": "0"}, "TRAINWRIGHT_CHECKPOINT_EVERY_STEPS='0': must be at least 1"),
        ({"TRAINWRIGHT_CHECKPOINT_EVERY_SECONDS": "0"}, "TRAINWRIGHT_CHECKPOINT_EVERY_SECONDS='0': must be more than 0"),
        ({"TRAINWRIGHT_RESUME": "auto"}, "TRAINWRIGHT_RESUME='auto' must be one of Auto, Never"),
        ({"TRAINWRIGHT_POD_IP": "pod"}, "TRAINWRIGHT_POD_IP='pod'"),
        ({"TRAINWRIGHT_DATA": "{"}, "TRAINWRIGHT_DATA='{'"),
        ({"TRAINWRIGHT_DATA": "[]"}, "must be a JSON object"),
        ({"TRAINWRIGHT_DATA": '{"a": {"path": "/a", "builtin": "b"}}'}, "entry 'a' must be"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_value_is_refused_by_name(changes: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidEnvironment) as refused:
        RankEnvironment.read({**CONTRACT, **changes})
    assert message in str(refused.value)
