"""The guides' scripts are what docs/guides.md promises: plain, short, and all of them on the page."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from support.twin import ROOT
from trainwright_runtime.launch import mistakes, scripts

GUIDES = sorted((ROOT / "manifests" / "samples" / "guides").glob("*.yaml"))
PAGE = (ROOT / "docs" / "guides.md").read_text()


def test_the_page_lists_them_all() -> None:
    assert len(GUIDES) == 8
    assert sorted(re.findall(r"\(\.\./manifests/samples/guides/(\S+)\)", PAGE)) == [one.name for one in GUIDES]


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_a_script_is_short_and_has_nothing_of_ours(path: Path, tmp_path: Path) -> None:
    code, job = yaml.safe_load_all(path.read_text())
    name = path.stem
    assert (code["metadata"]["name"], job["metadata"]["name"], job["spec"]["code"]["configMap"]) == (name, name, name)
    script = code["data"]["train.py"]
    assert len([line for line in script.splitlines() if line.strip()]) <= 45
    imported = {
        alias.name
        for node in ast.walk(ast.parse(script))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported
    assert "trainwright" not in script, "our variables are in capitals"
    file = tmp_path / "train.py"
    file.write_text(script)
    assert mistakes.warning_on(file) is None
    assert scripts.fault_of(file, workers=1, environ={}) is None
