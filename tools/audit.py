"""Is anything that we pin known to be broken? Asks PyPI about every release in every lock file: `make audit`.

Two questions: whether the release was withdrawn (yanked), which any index tells that speaks PEP 691; and which vulnerabilities
are known of it, which pypi.org tells of each release. Not every network reaches the latter, and a mirror may leave it out: so it
is first asked about a release that is known to be vulnerable, and an index that knows of nothing there has not answered.

Exit code 0: nothing new; 1: something new, listed; 3: nothing new as far as could be asked, and not all could be.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = ROOT / "tools" / "audit-allowed.toml"
INDEX = os.environ.get("AUDIT_INDEX", "https://pypi.org").rstrip("/")
KNOWN_BAD = ("jinja2", "2.10")
AT_ONCE = 16
TIMEOUT = aiohttp.ClientTimeout(total=20)
ALL_SECONDS = 45
PINNED = re.compile(r"^([a-zA-Z0-9][a-zA-Z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)

Release = tuple[str, str]
"""Name, as PEP 503 writes it, and version."""


@dataclass(frozen=True, order=True)
class Finding:
    """One fault of one release. `id`: `yanked`, or the vulnerability's."""

    name: str
    version: str
    id: str
    summary: str = ""
    fixed: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Allowed:
    """A finding that we live with: of one package, for a reason, until a day."""

    name: str
    id: str
    reason: str
    until: datetime.date


class BadList(Exception):
    """The list of what is allowed can't be used."""


def pinned(locks: Iterable[Path]) -> dict[Release, list[str]]:
    """All releases, each with the lock files that have it."""
    found: dict[Release, list[str]] = {}
    for lock in locks:
        for name, version in PINNED.findall(lock.read_text()):
            where = found.setdefault((re.sub(r"[-_.]+", "-", name).lower(), version), [])
            where.append(str(lock.relative_to(ROOT)) if lock.is_relative_to(ROOT) else str(lock))
    return found


def read_allowed(text: str) -> list[Allowed]:
    """The entries of the list; raises BadList."""
    entries = []
    for number, one in enumerate(tomllib.loads(text).get("allowed", []), 1):
        if set(one) != {"name", "id", "reason", "until"} or not str(one["reason"]).strip():
            raise BadList(f"entry {number} of {ALLOWED.name} needs name, id, reason and until, and nothing else")
        if not isinstance(one["until"], datetime.date):
            raise BadList(f"entry {number} of {ALLOWED.name}: until is {one['until']!r}; accepted is a day, such as 2027-01-31")
        entries.append(Allowed(one["name"], one["id"], one["reason"], one["until"]))
    return entries


def judge(
    found: Iterable[Finding], allowed: Iterable[Allowed], today: datetime.date
) -> tuple[list[Finding], list[Finding], list[Allowed]]:
    """What is new, what is allowed, and entries that allow nothing any more."""
    entries = list(allowed)
    new, known, used = [], [], set()
    for one in sorted(found):
        named = {one.id, *one.aliases}
        match = next((entry for entry in entries if entry.name == one.name and entry.id in named and today <= entry.until), None)
        if match is None:
            new.append(one)
        else:
            known.append(one)
            used.add(match)
    return new, known, [entry for entry in entries if entry not in used]


def yanked(release: Release, index: Any) -> Finding | None:
    """Whether PEP 691's index of a package has withdrawn all files of a release. Raises LookupError where it has none of them."""
    name, version = release
    its = re.compile(rf"{name.replace('-', '[-_.]')}-{re.escape(version)}(-|\.(tar\.gz|zip)$)", re.IGNORECASE)
    marks = [file.get("yanked", False) for file in index["files"] if its.match(file["filename"])]
    if not marks:
        raise LookupError(f"the index has no files of {name} {version}")
    return Finding(name, version, "yanked", str(marks[0]) if marks[0] is not True else "") if all(marks) else None


def vulnerabilities(release: Release, answer: Any) -> list[Finding]:
    """From pypi.org's JSON of one release, without what was withdrawn later."""
    return [
        Finding(
            *release,
            str(one["id"]),
            " ".join(str(one.get("summary") or one.get("details") or "").split())[:160],
            tuple(one.get("fixed_in") or ()),
            tuple(one.get("aliases") or ()),
        )
        for one in answer["vulnerabilities"]
        if not one.get("withdrawn")
    ]


class Unanswered(Exception):
    """The index did not answer a question."""


class Index:
    """A package index, asked about many releases at once."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def _ask(self, path: str, accept: str) -> Any:
        try:
            async with self._limit, self._session.get(f"{INDEX}/{path}", headers={"Accept": accept}) as answer:
                if answer.status != 200:
                    raise Unanswered(f"{path}: HTTP {answer.status}")
                return await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise Unanswered(f"{path}: {error or type(error).__name__}") from None

    async def yanked(self, release: Release) -> list[Finding]:
        try:
            found = yanked(release, await self._ask(f"simple/{release[0]}/", "application/vnd.pypi.simple.v1+json"))
        except (LookupError, TypeError) as error:
            raise Unanswered(str(error)) from None
        return [found] if found else []

    async def vulnerabilities(self, release: Release) -> list[Finding]:
        try:
            return vulnerabilities(release, await self._ask(f"pypi/{release[0]}/{release[1]}/json", "application/json"))
        except (LookupError, TypeError) as error:
            raise Unanswered(f"{release[0]} {release[1]}: no list of vulnerabilities ({error})") from None


async def ask(releases: Iterable[Release]) -> tuple[list[Finding], list[str]]:
    """All that is known against the releases; and what could not be asked, a line each."""
    async with aiohttp.ClientSession(timeout=TIMEOUT, trust_env=True) as session:
        index, questions = Index(session), []
        unanswered = []
        try:
            if not await index.vulnerabilities(KNOWN_BAD):
                raise Unanswered(f"it knows of nothing against {' '.join(KNOWN_BAD)}")
            questions += [index.vulnerabilities(one) for one in releases]
        except Unanswered as why:
            unanswered.append(f"vulnerabilities, at {INDEX}: {why}")
        questions += [index.yanked(one) for one in releases]
        tasks = [asyncio.create_task(one) for one in questions]
        done, late = await asyncio.wait(tasks, timeout=ALL_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    unanswered += [f"{len(late)} questions within {ALL_SECONDS} s"] if late else []
    unanswered += [str(fault) for task in done if isinstance(fault := task.exception(), Unanswered)]
    # A fault that is not the index's is ours: raised here.
    return [finding for task in done if not isinstance(task.exception(), Unanswered) for finding in task.result()], unanswered


def main() -> int:
    """Entry point."""
    say = sys.stdout.write
    try:
        allowed = read_allowed(ALLOWED.read_text())
    except (BadList, tomllib.TOMLDecodeError) as error:
        say(f"audit: {error}\n")
        return 1
    releases = pinned(
        sorted(one for one in ROOT.rglob("requirements*.lock") if ".venv" not in one.parts and "build" not in one.parts)
    )
    found, unanswered = asyncio.run(ask(releases))
    new, known, idle = judge(found, allowed, datetime.datetime.now(datetime.UTC).date())
    for one in new:
        fixed = f"; mended in {', '.join(one.fixed)}" if one.fixed else ""
        say(f"audit: {one.name} {one.version}: {one.id} {one.summary}{fixed} ({', '.join(releases[one.name, one.version])})\n")
    for entry in idle:
        say(f"audit: {ALLOWED.name}: {entry.id} of {entry.name} isn't found any more, or its day has passed: {entry.until}\n")
    for line in unanswered[:10]:
        say(f"audit: could not ask: {line}\n")
    more = "; not all could be asked, so this is no pass" if unanswered else ""
    say(f"audit: {len(releases)} releases: {len(new)} new findings, {len(known)} allowed{more}\n")
    return 1 if new else 3 if unanswered else 0


if __name__ == "__main__":
    sys.exit(main())
