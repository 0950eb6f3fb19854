"""A real cluster, our images on its node, and the chart installed: once for the whole suite, which ends by looking at what was done."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from cluster.cluster import Cluster
from cluster.machine import CannotHaveNode
from support.installed import ARCHIVES, NAMESPACE, VALUES, Installed, installed
from support.scraping import Prometheus

GPUS = 2


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A line for whoever looks on, past pytest's capture: what comes before the first test takes a while."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    return line


@pytest.fixture(scope="session")
def cluster(say: Callable[[str], None]) -> Iterator[Cluster]:
    """Control plane and one node with pretended GPUs."""
    made = Cluster()
    try:
        # What an earlier run left when it was killed.
        made.down()
        made.up(say, gpus=GPUS)
    except CannotHaveNode as reason:
        pytest.skip(f"no real node on this machine: {reason}")
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def release(cluster: Cluster, say: Callable[[str], None]) -> Installed:
    """Trainwright, installed by its chart."""
    archives = sorted(ARCHIVES.glob("*.tar"))
    assert archives, f"no images under {ARCHIVES}; `make e2e` builds them"
    cluster.load(archives, say)
    made = installed(cluster)
    made.kubectl("create", "namespace", NAMESPACE)
    made.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
    began = time.monotonic()
    made.install(values=VALUES)
    say(f"installed; the operator was ready after {time.monotonic() - began:.1f} s")
    return made


@pytest.fixture(scope="session")
def prometheus(release: Installed) -> Prometheus:
    """A Prometheus in the cluster."""
    made = Prometheus(release)
    made.start()
    return made


@pytest.fixture
def space(release: Installed, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test; where that fails, what was in it is shown."""
    name = f"t-{uuid.uuid4().hex[:6]}"
    release.make_space(name)
    yield name
    if (report := request.node.stash.get(REPORT, None)) is not None and report.failed:
        sys.stdout.write(release.dump(name))
    release.kubectl("delete", "namespace", name, "--wait=false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Upgrades and uninstalling after all else, and then a look at what was asked for in all that time."""
    late = ("test_release.py", "test_rights.py")
    items.sort(key=lambda item: late.index(item.path.name) + 1 if item.path.name in late else 0)


REPORT = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if report.when == "call":
        item.stash[REPORT] = report
    return report
