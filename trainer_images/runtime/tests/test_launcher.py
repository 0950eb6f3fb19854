"""The launcher with small programs instead of trainings: what it starts, how it ends, and what it says about it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from launching import Gang, Worker, wait_for

WAIT = "import time\nprint('waiting', flush=True)\nwhile True: time.sleep(0.02)\n"


def module(gang: Gang, text: str, name: str = "user_code") -> str:
    (gang.folder / f"{name}.py").write_text(text)
    return name


def waiting(worker: Worker) -> bool:
    return "waiting" in worker.output


# --- what is started --------------------------------------------------------------------------------------------------

SHOW = """
import json, os, sys
keys = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
print(json.dumps({"env": [os.environ[key] for key in keys], "argv": sys.argv[1:], "gloo": os.environ["GLOO_SOCKET_IFNAME"]}))
"""


def test_every_rank_is_told_who_it_is(gang: Gang) -> None:
    name = module(gang, SHOW)
    workers = gang.start("module", name, "--", "--epochs", "3", workers=2, nproc=2)
    # Nobody opens worker 0's port here, and worker 1 doesn't wait for it.
    assert [worker.wait() for worker in workers] == [0, 0]
    shown = [json.loads(gang.log(rank)) for rank in range(4)]
    assert [entry["env"] for entry in shown] == [
        ["0", "4", "0", "2"],
        ["1", "4", "1", "2"],
        ["2", "4", "0", "2"],
        ["3", "4", "1", "2"],
    ]
    assert all(entry["argv"] == ["--epochs", "3"] for entry in shown)
    assert all(entry["gloo"] == "lo" for entry in shown)
    assert workers[1].output == gang.log(2), "the lowest rank of a pod is the pod's log"
    assert workers[0].message.keys() == {"progress"}, "who is done has nothing to explain, but how far it came"


def test_a_command_is_started_once_a_pod(gang: Gang) -> None:
    (worker,) = gang.start("command", "--", "sh", "-c", "echo $RANK of $WORLD_SIZE", nproc=2)
    assert worker.wait() == 0
    assert worker.output == gang.log(0) == "0 of 1\n"


LAST_ACT = """
import atexit, os, sys, threading, time

class Library:
    def __del__(self):
        os.abort()

library = Library()
atexit.register(print, "exit handler")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread done"))).start()
if not os.fork():
    sys.exit(9)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
"""


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        ("", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no data')", 1, "no data"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
    ],
)
def test_what_libraries_do_while_the_interpreter_is_taken_apart_does_not_count(
    gang: Gang, ends: str, code: int, said: str
) -> None:
    (worker,) = gang.start("module", module(gang, LAST_ACT + ends))
    assert worker.wait() == code
    assert "thread done" in worker.output
    assert "exit handler" in worker.output
    assert said in worker.output


def test_a_function_is_called_like_a_console_script(gang: Gang) -> None:
    name = module(gang, "import sys\ndef main():\n    print(sys.argv[1:])\n    return 7\n")
    (worker,) = gang.start("module", name, "--function", "main", "--", "a", "--b")
    assert worker.wait() == 7
    assert worker.output == "['a', '--b']\n"


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (("recipe", "image-clasification"), {}, "unknown recipe 'image-clasification'; this image has: image-classification"),
        (("command", "--", "no-such-program"), {}, "there is no program 'no-such-program' in this image"),
        (("command", "--", "true"), {"TRAINWRIGHT_ATTEMPT": "x"}, "TRAINWRIGHT_ATTEMPT='x'"),
        (("command", "--", "./no-shebang"), {}, "./no-shebang can't be started: Exec format error"),
        (("command",), {}, "there is no program to run: it goes after `--`"),
        (
            ("recipe", "image-classification", "--", "--epochs", "3"),
            {},
            "a recipe takes no arguments, but there are '--epochs 3'",
        ),
        (("module", "json", "--function", "mian"), {}, "module 'json' has no function 'mian'"),
    ],
    ids=["unknown recipe", "unknown program", "bad environment", "no shebang", "no program", "arguments", "unknown function"],
)
def test_what_can_never_work_is_code_64(gang: Gang, arguments: tuple[str, ...], environ: dict[str, str], message: str) -> None:
    (gang.folder / "no-shebang").write_text("echo hello")
    (gang.folder / "no-shebang").chmod(0o755)
    (worker,) = gang.start(*arguments, **environ)
    assert worker.wait() == 64
    assert message in worker.output
    assert worker.message["cause"] == "InvalidConfig"
    assert worker.message["exitCode"] == 64
    assert message in worker.message["message"]


@pytest.mark.parametrize(("code", "cause"), [("INVALID_CONFIG", "InvalidConfig"), ("NO_CHECKPOINT", "NoCheckpoint")])
def test_a_reserved_code_of_a_rank_keeps_its_meaning_and_its_message(gang: Gang, code: str, cause: str) -> None:
    text = f"from trainwright_runtime.exits import Exit, leave\nleave(Exit.{code}, 'this is why')\n"
    (worker,) = gang.start("module", module(gang, text))
    assert worker.wait() in (64, 65)
    assert (worker.message["cause"], worker.message["message"]) == (cause, "this is why")


def test_it_is_up_before_a_framework_could_be_loaded(gang: Gang) -> None:
    began = time.time()
    (worker,) = gang.start("command", "--", "date", "+%s.%N")
    assert worker.wait() == 0
    assert float(worker.output) - began < 2.0


# --- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "number", "message"),
    [
        ("import sys; sys.exit(3)", 3, None, "exit code 3, nothing written"),
        ("raise ValueError('labels out of range')", 1, None, "ValueError: labels out of range"),
        ("import os; print('last words', flush=True); os.kill(os.getpid(), 9)", 137, 9, "killed by SIGKILL"),
        ("import sys; print('trainwright: earlier', file=sys.stderr); sys.exit('no such table')", 1, None, "no such table"),
        ("import os; os.abort()", 134, 6, "killed by SIGABRT"),
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise RuntimeError('while\\ntwo lines') from e",
            1,
            None,
            "RuntimeError: while",
        ),
    ],
    ids=["exit code", "exception", "SIGKILL", "exit message", "SIGABRT", "exception with a cause"],
)
def test_the_programs_end_is_the_workers_end(gang: Gang, text: str, code: int, number: int | None, message: str) -> None:
    (worker,) = gang.start("module", module(gang, text))
    assert worker.wait() == code
    said = worker.message
    assert (said["rank"], said["exitCode"], said["signal"], said["cause"], said["message"]) == (0, code, number, "Error", message)
    assert abs(said["time"] - time.time()) < 60


FIRST_FAILS = """
import os, sys, time
if os.environ["RANK"] == "1":
    print("about to fail", flush=True)
    raise ValueError("labels out of range")
try:
    while True: time.sleep(0.02)
finally:
    print("never reached by SIGTERM's default", flush=True)
"""


def test_the_first_rank_to_fail_is_named_and_the_others_do_not_hang(gang: Gang) -> None:
    (worker,) = gang.start("module", module(gang, FIRST_FAILS), nproc=3)
    began = time.monotonic()
    assert worker.wait() == 1
    assert time.monotonic() - began < 4, "a rank that heeds SIGTERM needn't be waited for"
    said = worker.message
    assert (said["rank"], said["cause"], said["message"]) == (1, "Error", "ValueError: labels out of range")
    assert "about to fail" in said["lines"]
    assert "[rank 1] ValueError: labels out of range" in worker.output


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ["RANK"] == "0":
    print("waiting", flush=True)
    while not os.path.exists("go"): time.sleep(0.02)
    sys.exit(5)
while True: time.sleep(0.02)
"""


def test_a_rank_that_ignores_sigterm_is_killed_when_another_has_failed(gang: Gang) -> None:
    (worker,) = gang.start("module", module(gang, STUBBORN), nproc=2)
    wait_for(lambda: waiting(worker), "rank 0")
    (gang.folder / "go").touch()
    assert worker.wait(20) == 5
    assert worker.message["rank"] == 0


PEER_GOES_FIRST = """
import os, sys, time
if os.environ["RANK"] == "0":
    print("[rank0]: Traceback (most recent call last):")
    print("[rank0]:   File ...")
    print("[rank0]: RuntimeError: [third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
    sys.exit(1)
time.sleep(0.3)
raise ValueError("the real one")
"""


def test_a_rank_that_only_lost_its_peer_does_not_take_the_blame(gang: Gang) -> None:
    (worker,) = gang.start("module", module(gang, PEER_GOES_FIRST), nproc=2)
    assert worker.wait() == 1
    assert (worker.message["rank"], worker.message["cause"]) == (1, "Error")


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.1]:1", "PeerLost"),
        ("torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error", "PeerLost"),
        ("torch.distributed.DistNetworkError: The server socket has failed to listen: address already in use", "Error"),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", "Error"),
        ("tensorflow.python.framework.errors_impl.UnavailableError: {{node CollectiveGatherV2}} Socket closed", "PeerLost"),
        ("Collective ops is aborted by: Deadline Exceeded RPC: /tensorflow.CoordinationService/Heartbeat", "PeerLost"),
        ("tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating tensor", "Error"),
    ],
    ids=["gloo", "nccl", "port taken", "the user's own connection", "tensorflow", "a peer that stands still", "no memory"],
)
def test_a_lost_peer_is_told_from_an_error_of_ones_own(gang: Gang, line: str, cause: str) -> None:
    text = f"import sys\nprint('Traceback (most recent call last):')\nprint('  File')\nprint({line!r})\nsys.exit(1)\n"
    (worker,) = gang.start("module", module(gang, text))
    assert worker.wait() == 1
    assert worker.message["cause"] == cause


TORCHRUN = """
import signal, sys, time
def fail(kind):
    print("[rank0]: Traceback (most recent call last):\\n[rank0]:   File\\n[rank0]: ValueError: the rank's own", flush=True)
    print(f"Traceback (most recent call last):\\n  File\\ntorch.distributed.elastic.multiprocessing.{kind}: summary", flush=True)
    sys.exit(1)
if sys.argv[1] == "fail":
    fail("errors.ChildFailedError")
signal.signal(signal.SIGTERM, lambda *_: fail("api.SignalException"))
print("waiting", flush=True)
while True: time.sleep(0.02)
"""


def test_torchruns_summary_gives_way_to_the_ranks_own_error(gang: Gang) -> None:
    (worker,) = gang.start("module", module(gang, TORCHRUN), "--", "fail")
    assert worker.wait() == 1
    assert worker.message["message"] == "ValueError: the rank's own"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import json\njson.loads('x')",
            "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0), called in user_code.py, line 2",
        ),
        ("def load():\n    raise ValueError('no data')\nload()", "ValueError: no data"),
    ],
    ids=["in a library", "in the user's own code"],
)
@pytest.mark.parametrize(
    "verb", [("module", "user_code"), ("command", "--", "python", "user_code.py")], ids=["module", "command"]
)
def test_an_error_in_a_library_names_the_line_that_called_it(gang: Gang, verb: tuple[str, ...], text: str, message: str) -> None:
    module(gang, text)
    (worker,) = gang.start(*verb)
    assert worker.wait() == 1
    assert worker.message["message"] == message


def test_a_long_story_is_cut_to_what_a_kubelet_takes(gang: Gang) -> None:
    text = "for n in range(300): print(n, 'ünïcödé \"quoted\" ' * 40)\nraise ValueError('x' * 5000)"
    (worker,) = gang.start("module", module(gang, text))
    assert worker.wait() == 1
    assert worker.message["message"].startswith("ValueError: xxx")
    assert worker.message["lines"][-1].startswith("ValueError: xxx"), "the last lines are the ones that are kept"
    assert len(gang.log(0).splitlines()) > 300, "the log has all of it"


# --- asked to stop ----------------------------------------------------------------------------------------------------

LEAVES_IN_ORDER = """
import signal, sys, time
def stop(*_):
    print("checkpoint written", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print("waiting", flush=True)
while True: time.sleep(0.02)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize(
    "text", [LEAVES_IN_ORDER, WAIT], ids=["a program that saves first", "a program that knows nothing of it"]
)
def test_asked_to_stop_every_rank_is_told(gang: Gang, text: str, number: signal.Signals) -> None:
    (worker,) = gang.start("module", module(gang, text), nproc=2)
    wait_for(lambda: "waiting" in gang.log(0) and "waiting" in gang.log(1), "both ranks")
    worker.process.send_signal(number)
    assert worker.wait() == 143
    assert worker.message["cause"] == "Terminated"
    if text is LEAVES_IN_ORDER:
        assert "checkpoint written" in gang.log(0)
        assert "checkpoint written" in gang.log(1)


def test_a_rank_may_take_its_time_to_save(gang: Gang) -> None:
    """Longer than the launcher gives ranks that a failed one leaves behind."""
    text = LEAVES_IN_ORDER.replace('print("checkpoint', 'time.sleep(6); print("checkpoint')
    (worker,) = gang.start("module", module(gang, text))
    wait_for(lambda: waiting(worker), "the rank")
    worker.process.terminate()
    assert worker.wait() == 143
    assert "checkpoint written" in worker.output


def test_done_is_done_even_when_asked_to_stop(gang: Gang) -> None:
    text = LEAVES_IN_ORDER.replace("143", "0")
    (worker,) = gang.start("module", module(gang, text))
    wait_for(lambda: waiting(worker), "the rank")
    worker.process.terminate()
    assert worker.wait() == 0


# --- whose children ---------------------------------------------------------------------------------------------------


def test_ranks_die_with_a_launcher_that_is_killed(gang: Gang) -> None:
    (worker,) = gang.start("module", module(gang, WAIT), nproc=2)
    wait_for(lambda: "waiting" in gang.log(0) and "waiting" in gang.log(1), "both ranks")
    worker.process.kill()
    assert worker.wait() == 137
    wait_for(lambda: not worker.leftovers(), "the ranks to end", 10)
    assert not worker.has_message()


def test_what_a_rank_leaves_behind_is_ended_with_it(gang: Gang) -> None:
    (worker,) = gang.start("command", "--", "sh", "-c", "sleep 300 & echo left behind")
    assert worker.wait() == 0
    wait_for(lambda: not worker.leftovers(), "the orphan to end", 10)


def test_orphans_are_reaped_while_it_runs(gang: Gang) -> None:
    (worker,) = gang.start("command", "--", "sh", "-c", "for n in 1 2 3; do (sleep 0.1 &) ; done; echo waiting; exec sleep 300")
    wait_for(lambda: waiting(worker), "the command")
    wait_for(lambda: len(worker.ranks()) == 1, "the orphans to be reaped", 10)
    assert "Z" not in [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in worker.ranks()]


# --- pre-flight -------------------------------------------------------------------------------------------------------


def test_a_workspace_that_cannot_be_written_is_code_66(gang: Gang) -> None:
    (gang.folder / "file").touch()
    (worker,) = gang.start("command", "--", "true", TRAINWRIGHT_WORKSPACE=str(gang.folder / "file"))
    assert worker.wait() == 66
    assert worker.message["cause"] == "Preflight"
    assert f"workspace {gang.folder}/file is not writable: " in worker.message["message"]


def test_a_name_that_does_not_resolve_is_code_66(gang: Gang) -> None:
    (worker,) = gang.start(
        "command", "--", "true", workers=2, only=(1,), options=("--peer-timeout", "0.5"), MASTER_ADDR="digits-worker-0.invalid"
    )
    assert worker.wait() == 66
    assert "worker 0's name 'digits-worker-0.invalid' does not resolve after 0.5 s" in worker.message["message"]


def test_a_master_that_never_answers_is_code_66_for_a_recipe(gang: Gang) -> None:
    (worker,) = gang.start("recipe", "image-classification", workers=2, only=(1,), options=("--peer-timeout", "1"))
    assert worker.wait(30) == 66
    assert worker.message["cause"] == "Preflight"
    assert "does not answer after 1 s" in worker.message["message"]


def test_a_users_own_program_may_take_its_time_with_the_master(gang: Gang) -> None:
    text = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\n"
    (worker,) = gang.start("module", module(gang, text), workers=2, only=(1,), options=("--peer-timeout", "0.2"))
    wait_for(lambda: "does not answer after 0.2 s" in worker.output, "the launcher to say so")
    (gang.folder / "go").touch()
    assert worker.wait() == 0


def test_logs_that_cannot_be_written_do_not_end_the_training(gang: Gang) -> None:
    """The rank's log is a full device; its output still reaches the launcher's."""
    logs = gang.workspace / "logs" / "attempt-1"
    gang.workspace.mkdir()
    logs.mkdir(parents=True)
    (logs / "rank-0.log").symlink_to("/dev/full")
    (worker,) = gang.start("command", "--", "echo", "hello")
    assert worker.wait() == 0
    assert "hello" in worker.output
    assert "rank 0's log is no longer kept: No space left on device" in worker.output
