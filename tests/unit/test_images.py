"""What `make images` decides, and what every Containerfile must have. Nothing is built here: tests/e2e starts what was."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import io
import json
import re
import tarfile
from dataclasses import asdict
from pathlib import Path

import pytest

from images import __main__ as program
from images import bases, engines, inputs, kept, network
from images.archive import Archive, NotAnArchive
from images.catalogue import IMAGES, ROOT, Image, UnknownImage, chosen
from images.compare import differences
from images.contents import LABELS, contents
from images.make import Made, note
from trainwright.api.deployment_spec import ServerName
from trainwright.plan import catalogue
from trainwright.plan.types import Settings

EVERY = pytest.mark.parametrize("image", IMAGES.values(), ids=list(IMAGES))


def instructions(image: Image) -> list[tuple[str, str]]:
    """Instruction and rest of each line of a Containerfile, continued lines joined."""
    text = "\n".join(line for line in image.containerfile.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", text)
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def last_stage(image: Image) -> list[tuple[str, str]]:
    lines = instructions(image)
    return lines[max(number for number, (word, _) in enumerate(lines) if word == "FROM") :]


# ---- the catalogue ------------------------------------------------------------------------------------------------


def test_every_image_that_the_operator_names_can_be_built():
    assert set(catalogue.names()) - {ServerName.TFSERVING.value} <= set(IMAGES), "TensorFlow Serving's is its makers'"
    assert all(image.containerfile.exists() for image in IMAGES.values())


def test_every_folder_with_a_lock_is_an_image():
    locks = [*ROOT.glob("trainer_images/*/requirements.lock"), *ROOT.glob("trainer_images/serving/*/requirements.lock")]
    assert {lock.parent.name for lock in locks} <= set(IMAGES)


def test_an_image_is_built_after_those_it_stands_on():
    assert [image.name for image in chosen(["horovod", "operator"])] == ["operator", "torch", "horovod"]


def test_all_are_built_without_names():
    assert {image.name for image in chosen([])} == set(IMAGES)


def test_a_name_that_is_none_is_refused_with_those_that_are():
    with pytest.raises(UnknownImage, match=r"IMAGES names 'pytorch'; there are: operator, base, sklearn, torch"):
        chosen(["pytorch"])


@EVERY
def test_an_image_is_made_of_files_that_are_there(image: Image):
    for source in image.sources:
        assert (ROOT / source).exists(), source


def versions(lock: Path) -> set[str]:
    return set(re.findall(r"^([A-Za-z0-9._-]+==[^ ;\\]+)", lock.read_text(), re.MULTILINE))


def test_horovods_packages_are_all_in_torchs_image_in_the_same_versions():
    assert versions(ROOT / "trainer_images/horovod/requirements.lock") <= versions(
        ROOT / "trainer_images/torch/requirements.lock"
    )


def test_the_operators_lock_is_part_of_the_projects():
    assert versions(ROOT / "operator/requirements.lock") <= versions(ROOT / "requirements.lock")


# ---- Containerfiles -----------------------------------------------------------------------------------------------


@EVERY
def test_the_last_stage_runs_as_nobody_and_says_what_it_is(image: Image):
    stage = last_stage(image)
    assert [rest for word, rest in stage if word == "USER"] == ["65532:65532"]
    labels = " ".join(rest for word, rest in stage if word == "LABEL")
    assert all(f"{label}=" in labels for label in LABELS)
    assert f'title="trainwright-{image.name}"' in labels


@EVERY
def test_the_last_stage_gets_one_copy_and_runs_nothing(image: Image):
    words = [word for word, _ in last_stage(image)]
    assert words.count("COPY") == (1 if image.python else 0)
    assert not {"RUN", "ADD"} & set(words)


@EVERY
def test_nothing_comes_from_an_address_or_a_moving_tag(image: Image):
    for word, rest in instructions(image):
        assert word != "ADD"
        assert ":latest" not in rest
        if word == "FROM":
            assert rest.startswith("${"), f"{rest}: the base is the caller's choice"
        if word == "RUN":
            assert not re.search(r"\b(curl|wget|apt-get)\b|https?://", rest)


@EVERY
def test_what_reaches_indexes_comes_as_a_secret(image: Image):
    for word, rest in instructions(image):
        if word == "RUN":
            assert {"ca", "index", "netrc"} <= set(re.findall(r"--mount=type=secret,id=(\w+)", rest))
        assert not (word in {"ENV", "ARG"} and re.search(r"INDEX_URL|TOKEN|PASSWORD|CERT", rest))


@EVERY
def test_what_the_build_mounts_is_what_its_key_is_made_of(image: Image):
    """A file that a build can read and that is not in the key would change an image unnoticed."""
    mounted = [
        path for word, rest in instructions(image) if word == "RUN" for path in re.findall(r"type=bind,source=([^,]+),", rest)
    ]
    for path in mounted:
        inside = [source for source in image.sources if source == path or source.startswith(f"{path}/")]
        assert inside, f"{path} is mounted, and none of {image.sources} lies in it"
    used = {word for _, rest in instructions(image) for word in re.findall(r"trainer_images/[\w/-]+", rest)} - set(mounted)
    for path in used:
        assert any(path == source or path.startswith(f"{source}/") for source in image.sources), (
            f"{path} is used and not in the key"
        )


@EVERY
def test_programs_that_the_operator_starts_are_first_on_the_path(image: Image):
    env = " ".join(rest for word, rest in last_stage(image) if word == "ENV")
    if image.needs:
        assert not env, "the image below says it"
        return
    assert re.search(r"PATH=/opt/venv/bin:" if image.python else r"PATH=", env)
    for setting in ("HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"):
        assert setting in env


def test_trainers_start_the_launcher_as_first_process():
    trainers = [
        image
        for image in IMAGES.values()
        if image.python and image.folder.startswith("trainer_images/") and "serving" not in image.folder
    ]
    assert len(trainers) == 5
    for image in trainers:
        assert ("ENTRYPOINT", '["trainwright-launch"]') in last_stage(image)


# ---- the key ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one image of two files."""
    (tmp_path / "here" / "tests").mkdir(parents=True)
    (tmp_path / "here" / "Containerfile").write_text("FROM ${BASE}\n")
    (tmp_path / "here" / "program.py").write_text("print()\n")
    return tmp_path


TINY = Image(name="tiny", folder="here", sources=("here",))


def test_the_key_stays_while_nothing_changes(tree: Path):
    before = inputs.key(TINY, {"base": "a"}, {}, tree)
    (tree / "here" / "tests" / "test_it.py").write_text("assert True\n")
    (tree / "here" / "__pycache__").mkdir()
    (tree / "here" / "__pycache__" / "program.pyc").write_text("")
    assert inputs.key(TINY, {"base": "a"}, {}, tree) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda tree: (tree / "here" / "program.py").write_text("print(1)\n"), id="another content"),
        pytest.param(lambda tree: (tree / "here" / "program.py").chmod(0o755), id="a file made executable"),
        pytest.param(lambda tree: (tree / "here" / "program.py").rename(tree / "here" / "other.py"), id="another name"),
        pytest.param(lambda tree: (tree / "here" / "new.py").write_text(""), id="a file more"),
    ],
)
def test_the_key_changes_with_the_files(tree: Path, change):
    before = inputs.key(TINY, {}, {}, tree)
    change(tree)
    assert inputs.key(TINY, {}, {}, tree) != before


def test_the_key_changes_with_arguments_and_with_images_below(tree: Path):
    keys = {
        inputs.key(TINY, {"base": "a"}, {}, tree),
        inputs.key(TINY, {"base": "b"}, {}, tree),
        inputs.key(TINY, {"base": "a", "variant": "cuda"}, {}, tree),
        inputs.key(TINY, {"base": "a"}, {"torch": "1"}, tree),
        inputs.key(TINY, {"base": "a"}, {"torch": "2"}, tree),
    }
    assert len(keys) == 5


def test_without_git_there_is_no_revision_and_time_begins_at_nought(tree: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tree.parent))
    assert inputs.source(TINY, tree) == inputs.Source(revision="unknown", epoch=0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert inputs.source(TINY, tree).epoch == 1700000000


def test_a_note_without_its_archive_is_none(tmp_path: Path):
    (tmp_path / "tiny.json").write_text("{}")
    assert note("tiny", tmp_path) is None


def made(folder: Path, key: str) -> Made:
    """What a build leaves in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    one = Made(
        name="tiny",
        reference="r/tiny:1",
        key=key,
        digest="sha256:1",
        variant="any",
        revision="x",
        archive=1,
        unpacked=1,
        seconds=1,
        save_seconds=1,
    )
    (folder / "tiny.tar").write_text(key)
    (folder / "tiny.cdx.json").write_text("{}")
    (folder / "tiny.json").write_text(json.dumps(asdict(one)))
    return one


def test_another_checkout_takes_what_was_kept_and_only_the_last_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = tmp_path / "first", tmp_path / "second"
    for key in ("old", "new"):
        made(first, key)
        kept.keep("tiny", first)
    kept.fetch("tiny", second)
    found = note("tiny", second)
    assert found
    assert (found.key, (second / "tiny.tar").read_text()) == ("new", "new")
    assert len(list(kept.folder().iterdir())) == 3


def test_what_is_built_anew_does_not_change_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The files are linked, so writing into one would change both."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made(tmp_path / "first", "one")
    kept.keep("tiny", tmp_path / "first")
    kept.fetch("tiny", tmp_path / "second")
    made(tmp_path / "third", "two")
    kept.keep("tiny", tmp_path / "third")
    assert (tmp_path / "second" / "tiny.tar").read_text() == "one"


# ---- refusals -----------------------------------------------------------------------------------------------------


def test_without_an_engine_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(engines.NoEngine, match=r"neither buildah nor docker is on PATH.* apt-get install buildah"):
        engines.engine()
    with pytest.raises(engines.NoEngine, match=r"ENGINE is docker, which is not on PATH.* apt-get install docker\.io"):
        engines.engine("docker")
    with pytest.raises(engines.NoEngine, match=r"ENGINE is 'podman'; it can be: buildah, docker"):
        engines.engine("podman")


def test_without_mmdebstrap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(bases.NoDebian, match=r"BASE=debian needs mmdebstrap.* apt-get install mmdebstrap"):
        bases._bootstrap(bases.RUNS, tmp_path / "base.tar")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["--variant", "gpu"], r"VARIANT is 'gpu'; it can be: cpu, cuda", id="an unknown variant"),
        pytest.param(["--tag", "latest"], r"TAG is 'latest'", id="a moving tag"),
    ],
)
def test_options_that_make_no_sense_are_refused(words: list[str], told: str):
    with pytest.raises(ValueError, match=told):
        program.options(program.arguments(words))


def test_images_are_named_as_the_operator_names_them_unless_told_otherwise():
    told = program.options(program.arguments(["--registry", "", "--tag", ""]))
    assert told.reference(IMAGES["torch"]) == Settings().image("torch")


# ---- the way to package indexes -----------------------------------------------------------------------------------


def test_what_pip_is_told_goes_to_builds_as_a_secret_and_to_uv_as_well(tmp_path: Path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("certificates")
    environ = {
        "SSL_CERT_FILE": str(bundle),
        "NETRC": str(tmp_path / "none"),
        "PIP_FIND_LINKS": "/wheels",
        "UV_HTTP_TIMEOUT": "60",
    }
    found = network.secrets(tmp_path, environ, "global.index-url='https://user:word@index.example/simple'\nglobal.cert='/x'\n")
    assert found == {"ca": bundle, "index": tmp_path / "index"}
    assert (tmp_path / "index").stat().st_mode & 0o777 == 0o600
    address = "https://user:word@index.example/simple"
    assert (tmp_path / "index").read_text().splitlines() == [
        f"PIP_INDEX_URL={address}",
        f"UV_DEFAULT_INDEX={address}",
        "UV_HTTP_TIMEOUT=60",
    ]


def test_a_machine_that_reaches_indexes_by_itself_hands_on_nothing(tmp_path: Path):
    assert network.secrets(tmp_path, {"NETRC": str(tmp_path / "none")}, "") == {}


# ---- archives -----------------------------------------------------------------------------------------------------


def layer(**files: tuple[bytes, int]) -> bytes:
    """A layer of files by path (a double underscore stands for a slash), each with its mode."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        for name, (content, mode) in files.items():
            one = tarfile.TarInfo(name.replace("__", "/"))
            one.mode, one.size = mode, len(content)
            tar.addfile(one, io.BytesIO(content))
    return body.getvalue()


def archive(path: Path, layers: list[bytes], **settings: object) -> Archive:
    """An OCI archive of those layers."""
    blobs: dict[str, bytes] = {}

    def put(content: bytes, kind: str) -> dict[str, object]:
        digest = digest_of(content)
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content), "mediaType": f"application/vnd.oci.image.{kind}"}

    labels = dict.fromkeys(LABELS, "x")
    config = json.dumps({"config": {"User": "65532:65532", "Labels": labels, **settings}}).encode()
    manifest = {"layers": [put(one, "layer.v1.tar") for one in layers], "config": put(config, "config.v1+json")}
    index = {"manifests": [put(json.dumps(manifest).encode(), "manifest.v1+json")]}
    with tarfile.open(path, "w") as tar:
        for name, content in {**blobs, "index.json": json.dumps(index).encode()}.items():
            one = tarfile.TarInfo(name)
            one.size = len(content)
            tar.addfile(one, io.BytesIO(content))
    return Archive(path)


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


STATUS = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
SBOM = json.dumps(
    {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"bom-ref": "numpy==2", "name": "numpy", "type": "library"}]}
).encode()
DEBIAN = layer(var__lib__dpkg__status=(STATUS, 0o644), usr__bin__su=(b"", 0o4755))
VENV = layer(**{"opt__venv__sbom.cdx.json": (SBOM, 0o644)})


def test_the_list_of_contents_names_python_and_debian_packages_that_are_installed(tmp_path: Path):
    found = contents(archive(tmp_path / "a.tar", [DEBIAN, VENV]), "tiny")
    assert found.faults == ()
    assert [component["name"] for component in found.sbom["components"]] == ["numpy", "libc6"]
    assert found.sbom["components"][1]["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64"
    assert found.sbom["metadata"]["component"]["type"] == "container"


def test_what_an_image_adds_to_another_is_in_the_list_once(tmp_path: Path):
    added = json.dumps(
        {"components": [{"bom-ref": "numpy==2", "name": "numpy"}, {"bom-ref": "horovod==1", "name": "horovod"}]}
    ).encode()
    more = layer(**{"opt__venv__sbom.horovod.cdx.json": (added, 0o644)})
    found = contents(archive(tmp_path / "a.tar", [VENV, more]), "tiny")
    assert [component["name"] for component in found.sbom["components"]] == ["numpy", "horovod"]


@pytest.mark.parametrize(
    ("name", "mode", "told"),
    [
        pytest.param("opt__venv__bin__x", 0o4755, "runs with its owner's rights", id="setuid"),
        pytest.param("opt__venv__data", 0o666, "can be written by everybody", id="writable"),
        pytest.param("usr__bin__gcc", 0o755, "is for building", id="a compiler"),
        pytest.param("opt__venv__bin__pip", 0o755, "is for building", id="an installer"),
        pytest.param("root__.cache__uv__x", 0o644, "left over from building", id="a cache"),
        pytest.param("opt__build__x", 0o644, "left over from building", id="the builder's environment"),
    ],
)
def test_what_no_image_may_hold_is_found(tmp_path: Path, name: str, mode: int, told: str):
    found = contents(archive(tmp_path / "a.tar", [DEBIAN, VENV, layer(**{name: (b"", mode)})]), "tiny")
    assert len(found.faults) == 1
    assert told in found.faults[0]


def test_an_image_that_runs_as_root_or_says_nothing_of_itself_is_found(tmp_path: Path):
    faults = contents(archive(tmp_path / "a.tar", [VENV], User="", Labels={}), "tiny").faults
    assert faults[0] == "it runs as '', not as 65532:65532"
    assert len(faults) == 1 + len(LABELS)


def test_an_image_without_its_list_is_found(tmp_path: Path):
    assert contents(archive(tmp_path / "a.tar", [DEBIAN]), "tiny").faults == ("/opt/venv/sbom.cdx.json is missing",)
    assert contents(archive(tmp_path / "a.tar", [DEBIAN]), "tiny", python=False).faults == ()


def test_builds_that_differ_say_in_what(tmp_path: Path):
    one = archive(tmp_path / "one.tar", [layer(a=(b"1", 0o644), b=(b"1", 0o644))])
    assert differences(one, archive(tmp_path / "same.tar", [layer(a=(b"1", 0o644), b=(b"1", 0o644))])) == []
    other = archive(tmp_path / "other.tar", [layer(a=(b"2", 0o644), c=(b"1", 0o644))], WorkingDir="/x")
    assert differences(one, other) == [
        "their settings differ in config",
        "/a differs",
        "/b is in one of them only",
        "/c is in one of them only",
    ]


def test_a_file_that_is_no_archive_is_told(tmp_path: Path):
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    with pytest.raises(NotAnArchive, match=r"no index\.json: not an OCI archive"):
        Archive(tmp_path / "x.tar")


# ---- torch without CUDA's libraries -------------------------------------------------------------------------------


def test_the_slim_lock_leaves_out_what_only_gpus_need_and_nothing_else():
    loader = importlib.machinery.SourceFileLoader("slim_cpu", str(ROOT / "trainer_images/torch/slim-cpu"))
    spec = importlib.util.spec_from_loader("slim_cpu", loader)
    assert spec
    slim = importlib.util.module_from_spec(spec)
    loader.exec_module(slim)
    lock = ROOT / "trainer_images/torch/requirements.lock"

    def names(text: str) -> set[str]:
        return set(re.findall(r"^([a-zA-Z0-9._-]+)==", text, re.MULTILINE))

    shorter = slim.shorter_lock(lock.read_text())
    gone = names(lock.read_text()) - names(shorter)
    assert {"triton", "nvidia-cublas", "nvidia-cudnn-cu13", "nvidia-nccl-cu13", "cuda-bindings"} <= gone
    assert all(name == "triton" or name.startswith(("nvidia-", "cuda-")) for name in gone)
    assert {"torch", "torchvision", "nvidia-ml-py", "nvidia-cuda-runtime", "nvidia-cuda-cupti"} <= names(shorter)
    assert shorter.count("--hash=sha256:") == shorter.count("sha256:") > 100
