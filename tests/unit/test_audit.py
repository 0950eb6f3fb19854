"""`make audit`: what is a finding, what is allowed, and that no answer is no pass. The index is a small web server of the test's."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import audit
from audit import Allowed, BadList, Finding

TODAY = datetime.date(2026, 11, 22)
OLD = Finding("old", "1.0", "PYSEC-1", "breaks", ("1.1",), ("CVE-1",))


def test_every_release_of_every_lock_is_asked_about_once(tmp_path: Path) -> None:
    (tmp_path / "a.lock").write_text(
        "# made by uv\nPy_Yaml==6.0 \\\n    --hash=sha256:00\nuvicorn[standard]==1.2 ; python_version > '3'\n"
    )
    (tmp_path / "b.lock").write_text("py-yaml==6.0 \\\n    --hash=sha256:00\npy-yaml==5.0\n")
    found = audit.pinned([tmp_path / "a.lock", tmp_path / "b.lock"])
    assert set(found) == {("py-yaml", "6.0"), ("py-yaml", "5.0"), ("uvicorn", "1.2")}
    assert len(found["py-yaml", "6.0"]) == 2


@pytest.mark.parametrize(
    ("entry", "new"),
    [
        (("old", "PYSEC-1", TODAY), 0),
        (("old", "CVE-1", TODAY), 0),
        (("old", "PYSEC-1", TODAY - datetime.timedelta(days=1)), 1),
        (("old", "PYSEC-2", TODAY), 1),
        (("other", "PYSEC-1", TODAY), 1),
    ],
    ids=["its own name", "another name of it", "a day that has passed", "another finding", "another package"],
)
def test_an_entry_allows_one_finding_of_one_package_until_its_day(entry: tuple[str, str, datetime.date], new: int) -> None:
    name, identity, until = entry
    allowed = Allowed(name, identity, "because", until)
    found, known, idle = audit.judge([OLD], [allowed], TODAY)
    assert (len(found), len(known), len(idle)) == (new, 1 - new, new)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('name = "a"\nid = "b"\nuntil = 2027-01-01', "needs name, id, reason and until"),
        ('name = "a"\nid = "b"\nreason = " "\nuntil = 2027-01-01', "needs name, id, reason and until"),
        ('name = "a"\nid = "b"\nreason = "c"\nuntil = "soon"', "accepted is a day"),
    ],
)
def test_an_entry_needs_a_reason_and_a_day(entry: str, said: str) -> None:
    with pytest.raises(BadList, match=said):
        audit.read_allowed(f"[[allowed]]\n{entry}")


def test_the_list_that_is_kept_can_be_read() -> None:
    assert isinstance(audit.read_allowed(audit.ALLOWED.read_text()), list)


def files(*entries: tuple[str, Any]) -> dict[str, Any]:
    return {"files": [{"filename": name, "yanked": mark} for name, mark in entries]}


def test_a_release_is_withdrawn_when_all_its_files_are() -> None:
    wheel, sdist = "py_yaml-1.0-py3-none-any.whl", "py-yaml-1.0.tar.gz"
    other = ("py_yaml-1.0.1-py3-none-any.whl", False)
    assert audit.yanked(("py-yaml", "1.0"), files((wheel, "broken"), (sdist, True), other)) == Finding(
        "py-yaml", "1.0", "yanked", "broken"
    )
    assert audit.yanked(("py-yaml", "1.0"), files((wheel, "broken"), (sdist, False))) is None
    with pytest.raises(LookupError):
        audit.yanked(("py-yaml", "2.0"), files((wheel, False)))


KNOWN = {
    "vulnerabilities": [{"id": "PYSEC-1", "summary": "breaks", "fixed_in": ["1.1"], "aliases": ["CVE-1"], "withdrawn": None}]
}
GONE = {"vulnerabilities": [{**KNOWN["vulnerabilities"][0], "withdrawn": "2026-01-01"}]}
Serve = Callable[[dict[str, Any]], Any]


@pytest.fixture
async def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Serve]:
    """An index that answers with these objects by path, and 404 to all else."""
    servers = []

    async def started(answers: dict[str, Any]) -> None:
        async def answer(request: web.Request) -> web.Response:
            return web.json_response(answers[request.path]) if request.path in answers else web.Response(status=404)

        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        monkeypatch.setattr(audit, "INDEX", str(server.make_url("")).rstrip("/"))

    yield started
    for server in servers:
        await server.close()


CANARY = {"/pypi/jinja2/2.10/json": KNOWN}
SOUND = {"/simple/old/": files(("old-1.0.tar.gz", False))}


@pytest.mark.parametrize(
    ("answers", "found", "unanswered"),
    [
        (CANARY | SOUND | {"/pypi/old/1.0/json": KNOWN}, [OLD], []),
        (CANARY | SOUND | {"/pypi/old/1.0/json": GONE}, [], []),
        (SOUND, [], ["jinja2/2.10/json: HTTP 404"]),
        ({"/pypi/jinja2/2.10/json": {"vulnerabilities": []}} | SOUND, [], ["knows of nothing against jinja2 2.10"]),
        (CANARY | SOUND, [], ["old/1.0/json: HTTP 404"]),
        (CANARY | SOUND | {"/pypi/old/1.0/json": {}}, [], ["no list of vulnerabilities"]),
        (CANARY | {"/pypi/old/1.0/json": KNOWN}, [OLD], ["simple/old/: HTTP 404"]),
        ({"/simple/old/": files(("old-1.0.tar.gz", "bad"))}, [Finding("old", "1.0", "yanked", "bad")], ["HTTP 404"]),
    ],
    ids=[
        *("a vulnerability", "one that was withdrawn", "an index without vulnerabilities", "an index that knows of none"),
        *("a release that it doesn't know", "an answer without a list", "no list of files", "a yanked release"),
    ],
)
async def test_an_index_that_does_not_answer_is_not_taken_for_one_that_finds_nothing(
    serve: Serve, answers: dict[str, Any], found: list[Finding], unanswered: list[str]
) -> None:
    await serve(answers)
    seen, missing = await audit.ask([("old", "1.0")])
    assert seen == found
    assert len(missing) == len(unanswered)
    assert all(words in line for words, line in zip(unanswered, missing, strict=True))


async def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "INDEX", "http://127.0.0.1:9")
    found, missing = await audit.ask([("old", "1.0")])
    assert (found, len(missing)) == ([], 2)


@pytest.mark.parametrize(
    ("answer", "code"),
    [(([], []), 0), (([OLD], []), 1), (([OLD], ["x"]), 1), (([], ["x"]), 3)],
    ids=["nothing", "something", "something, and not all asked", "nothing, and not all asked"],
)
def test_the_exit_code_tells_a_pass_from_no_answer(monkeypatch: pytest.MonkeyPatch, answer: Any, code: int) -> None:
    async def asked(releases: Any) -> Any:
        assert len(releases) > 100
        return answer

    monkeypatch.setattr(audit, "ask", asked)
    monkeypatch.setattr(audit, "pinned", lambda _: {("old", "1.0"): ["a.lock"]} | {(f"p{n}", "1"): [] for n in range(100)})
    assert audit.main() == code
