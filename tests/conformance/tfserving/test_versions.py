"""Which versions are loaded, and when: the directory, the policy, the configuration, labels."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from conftest import Serving, config, model, put, wait_for

ZERO = {"instances": [[0, 0]]}
ALLOWED = "--allow_version_labels_for_unavailable_models=true"


def answers(server: Serving, which: str = "") -> float | None:
    """What the model adds: the number of the version that answered."""
    status, answer = server.predict(ZERO, which=which)
    return answer["predictions"][0][0] if status == 200 else None


def refused(server: Serving, new: str) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        server.reload(new)
    return raised.value.code(), raised.value.details()


def test_a_new_directory_is_a_deployment_without_a_gap(tmp_path: Path, start: Callable[..., Serving]) -> None:
    base = tmp_path / "plus"
    put(base, 1)
    server = start(config(model("plus", base))).wait_until_ready()
    assert answers(server) == 1
    seen, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.append(answers(server))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        put(base, 2)
        wait_for(lambda: server.states() == {1: "END", 2: "AVAILABLE"}, "the new version alone")
        wait_for(lambda: seen[-1] == 2, "an answer of it")
    finally:
        stop.set()
        asking.join()
    assert set(seen) == {1, 2}
    assert seen == sorted(seen), "no request was without a version, nor went back"
    assert server.predict(ZERO, which="/versions/1")[0] == 404
    # Back to the one before, by removing the directory of the new one.
    shutil.rmtree(base / "2")
    wait_for(lambda: server.states() == {1: "AVAILABLE", 2: "END"}, "the old version again")


def test_a_version_that_can_not_be_loaded_disturbs_no_other(tmp_path: Path, start: Callable[..., Serving]) -> None:
    base = tmp_path / "plus"
    put(base, 1)
    server = start(config(model("plus", base)), "--max_num_load_retries=0").wait_until_ready()
    put(tmp_path / "broken", 2)
    (tmp_path / "broken/2/saved_model.pb").write_bytes(b"no model")
    os.rename(tmp_path / "broken/2", base / "2")
    wait_for(lambda: server.states().get(2) == "END", "an end of version 2")
    assert server.states() == {1: "AVAILABLE", 2: "END"}
    (told,) = server.get("/v1/models/plus/versions/2")[1]["model_version_status"]
    assert told["status"]["error_code"] != "OK"
    assert told["status"]["error_message"]
    assert answers(server) == 1


def test_what_is_no_number_is_no_version(tmp_path: Path, start: Callable[..., Serving]) -> None:
    base = tmp_path / "plus"
    put(base, 1)
    shutil.copytree(base / "1", base / ".tmp-2")
    shutil.copytree(base / "1", base / "two")
    server = start(config(model("plus", base))).wait_until_ready()
    assert server.states() == {1: "AVAILABLE"}


def test_a_label_stands_only_on_a_version_that_answers(tmp_path: Path, start: Callable[..., Serving]) -> None:
    base = tmp_path / "plus"
    for number in (1, 2):
        put(base, number)
    server = start(config(model("plus", base, versions=(1,)))).wait_until_ready()
    server.reload(config(model("plus", base, versions=(1,), labels={"stable": 1})))
    assert answers(server, "/labels/stable") == 1
    both = config(model("plus", base, versions=(1, 2), labels={"stable": 1, "canary": 2}))
    code, said = refused(server, both)
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "Request to assign label to version 2 of model plus, which is not currently available for inference" in said
    assert server.predict(ZERO, which="/labels/canary")[0] == 400
    # It returns before a new version of a model that was there is loaded.
    server.reload(config(model("plus", base, versions=(1, 2), labels={"stable": 1})))
    wait_for(lambda: server.states() == {1: "AVAILABLE", 2: "AVAILABLE"}, "version 2")
    server.reload(both)
    assert (answers(server, "/labels/stable"), answers(server, "/labels/canary")) == (1, 2)
    server.reload(config(model("plus", base, versions=(2,), labels={"stable": 2})))
    assert answers(server, "/labels/stable") == 2
    wait_for(lambda: server.states() == {1: "END", 2: "AVAILABLE"}, "the end of version 1")
    assert server.predict(ZERO, which="/labels/canary")[0] == 400


def test_with_the_flag_a_new_label_may_go_ahead_and_an_old_one_may_not(tmp_path: Path, start: Callable[..., Serving]) -> None:
    base = tmp_path / "plus"
    put(base, 1)
    server = start(config(model("plus", base, versions=(1,), labels={"stable": 1})), ALLOWED).wait_until_ready()
    server.reload(config(model("plus", base, versions=(1,), labels={"stable": 1, "canary": 2})))
    assert server.predict(ZERO, which="/labels/canary")[0] == 404
    code, _ = refused(server, config(model("plus", base, versions=(1,), labels={"stable": 2})))
    assert code == grpc.StatusCode.FAILED_PRECONDITION


def test_labels_at_the_start_need_the_flag(tmp_path: Path, start: Callable[..., Serving]) -> None:
    put(tmp_path / "plus", 1)
    server = start(config(model("plus", tmp_path / "plus", labels={"stable": 1})))
    assert server.process.wait(90) != 0
    assert "not currently available for inference" in server.log


def test_a_reload_replaces_everything(tmp_path: Path, start: Callable[..., Serving]) -> None:
    for name in ("plus", "other"):
        put(tmp_path / name, 1)
    server = start(config(model("plus", tmp_path / "plus"), model("other", tmp_path / "other"))).wait_until_ready()
    assert server.states("other") == {1: "AVAILABLE"}
    server.reload(config(model("plus", tmp_path / "plus")))
    wait_for(lambda: server.states("other") == {1: "END"}, "the end of the model that is not named")
    assert server.predict(ZERO, "other")[0] == 404
    assert answers(server) == 1
    # It waits for a model that is new.
    put(tmp_path / "third", 4)
    server.reload(config(model("plus", tmp_path / "plus"), model("third", tmp_path / "third")))
    assert server.predict(ZERO, "third")[0] == 200


def test_the_configuration_file_is_read_again(tmp_path: Path, start: Callable[..., Serving]) -> None:
    base = tmp_path / "plus"
    for number in (1, 2):
        put(base, number)
    server = start(config(model("plus", base, versions=(1,))), "--model_config_file_poll_wait_seconds=1").wait_until_ready()
    server.config_file.write_text(config(model("plus", base, versions=(2,))))
    wait_for(lambda: server.states() == {1: "END", 2: "AVAILABLE"}, "what the file says now")


def test_it_ends_when_it_is_asked(tmp_path: Path, start: Callable[..., Serving]) -> None:
    put(tmp_path / "plus", 1)
    server = start(config(model("plus", tmp_path / "plus"))).wait_until_ready()
    assert server.end() in (0, -15, 143)
    assert server.get("/v1/models/plus")[0] == 0
