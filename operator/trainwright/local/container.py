"""What a container of a pod becomes on this machine: directories for its volumes, an environment, a command line.

There is no mount namespace: absolute paths of mounts are replaced by the directories behind them wherever they occur in
environment values, arguments and the working directory.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainwright.api.model import amount
from trainwright.cluster.port import CLAIMS, CONFIG_MAPS, SECRETS, VOLUMES, Cluster, NotFound, Object

RETRY_SECONDS = 0.5
_DEFAULT_MODE = 0o644
# The machine has them; a process needs no mount of its own there (TMPDIR leads it to the pod's own files).
_HOST_PATHS = ("/dev/shm", "/tmp")  # noqa: S108


class NotYet(Exception):
    """Something that the pod needs is not there; the message names it, and trying again may help.

    `reason` is the word that a kubelet has for it.
    """

    def __init__(self, message: str, *, reason: str = "ContainerCreating", retry_seconds: float = RETRY_SECONDS) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_seconds = retry_seconds


class BadConfig(NotYet):
    """The container's environment can't be made: what a kubelet calls CreateContainerConfigError."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="CreateContainerConfigError")


@dataclass(frozen=True)
class VolumeFile:
    """One file of a volume, and its permission bits."""

    content: bytes
    mode: int


@dataclass(frozen=True)
class Mounts:
    """Absolute paths inside the container and the directories (or files) that stand for them."""

    paths: Mapping[str, Path]

    def rewrite(self, text: str) -> str:
        """The text with every mounted path replaced, longest first, only where a path begins and its component ends."""
        if not self.paths:
            return text
        known = "|".join(re.escape(path) for path in sorted(self.paths, key=len, reverse=True))
        return re.sub(rf"(?<![\w./-])(?:{known})(?![\w.-])", lambda match: str(self.paths[match.group(0)]), text)


async def mount(cluster: Cluster, pod: Object, container: Object, folder: Path) -> Mounts:
    """Make the pod's volumes under `folder`. Raises `NotYet`."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    made: dict[str, Path | None] = {}
    paths: dict[str, Path] = {}
    for wanted in container.get("volumeMounts", []):
        name = wanted["name"]
        if name not in made:
            made[name] = await _volume(cluster, pod, volumes[name], folder / "volumes" / name)
        source = made[name]
        if source is None or (wanted["mountPath"] in _HOST_PATHS and "emptyDir" in volumes[name]):
            continue
        if wanted.get("subPath"):
            source = source / wanted["subPath"]
            if not source.exists():
                source.mkdir(parents=True)
        paths[wanted["mountPath"].rstrip("/")] = source
    message = termination_message(folder)
    # Each start of the container begins without last words.
    message.write_bytes(b"")
    paths[container.get("terminationMessagePath", "/dev/termination-log")] = message
    return Mounts(paths)


def termination_message(folder: Path) -> Path:
    """The file with the last words of the pod whose folder this is."""
    return folder / "termination-log"


async def _volume(cluster: Cluster, pod: Object, volume: Object, folder: Path) -> Path | None:
    """The directory behind a volume; None for one that needs no directory here."""
    namespace = pod["metadata"]["namespace"]
    if "persistentVolumeClaim" in volume:
        return await claimed_directory(cluster, namespace, volume["persistentVolumeClaim"]["claimName"])
    folder.mkdir(parents=True, exist_ok=True)
    if "emptyDir" in volume:
        return folder
    projected = volume.get("projected", {})
    for source in projected.get("sources", [volume]):
        for name, file in (await _files(cluster, pod, source, projected.get("defaultMode", _DEFAULT_MODE))).items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # An earlier try may have left it without the permission to write.
            target.unlink(missing_ok=True)
            target.write_bytes(file.content)
            target.chmod(file.mode)
    return folder


async def _files(cluster: Cluster, pod: Object, source: Object, mode: int) -> dict[str, VolumeFile]:
    namespace = pod["metadata"]["namespace"]
    for kind in ("configMap", "secret"):
        if config := source.get(kind):
            name = config.get("secretName") or config["name"]
            data = await _data(cluster, namespace, name, secret=kind == "secret", optional=config.get("optional", False))
            return _selected(data, config, f'{kind.lower()} "{name}"', config.get("defaultMode", mode))
    if downward := source.get("downwardAPI"):
        mode = downward.get("defaultMode", mode)
        return {
            item["path"]: VolumeFile(_downward(pod, item).encode(), item.get("mode", mode)) for item in downward.get("items", [])
        }
    if "serviceAccountToken" in source:
        return {}
    kinds = ", ".join(sorted(source.keys() - {"name"})) or "nothing"
    raise NotYet(f"volume of kind {kinds} is not known to the process node (docs/local-twin.md)")


def _selected(data: dict[str, bytes], config: Object, source: str, mode: int) -> dict[str, VolumeFile]:
    """The keys that a volume asks for, all of them if it doesn't say; one that isn't there is no error if it is optional."""
    items = config.get("items") or [{"key": key, "path": key} for key in data]
    missing = sorted(item["key"] for item in items if item["key"] not in data)
    if missing and not config.get("optional", False):
        raise NotYet(f"{source} references non-existent key: {', '.join(missing)}")
    return {item["path"]: VolumeFile(data[item["key"]], item.get("mode", mode)) for item in items if item["key"] in data}


def _downward(pod: Object, item: Object) -> str:
    if "fieldRef" in item:
        return field(pod, item["fieldRef"]["fieldPath"])
    wanted = item["resourceFieldRef"]
    container = next(one for one in pod["spec"]["containers"] if one["name"] == wanted.get("containerName"))
    return _resource(container, wanted)


async def claimed_directory(cluster: Cluster, namespace: str, name: str) -> Path:
    """The directory of this machine behind a claim. Raises `NotYet`."""
    try:
        claim = await cluster.get(CLAIMS, name, namespace)
    except NotFound:
        raise NotYet(f'persistentvolumeclaim "{name}" not found') from None
    volume_name = claim["spec"].get("volumeName")
    if not volume_name or claim.get("status", {}).get("phase") != "Bound":
        raise NotYet(f'persistentvolumeclaim "{name}" is not bound yet')
    volume = await cluster.get(VOLUMES, volume_name)
    path = volume["spec"].get("hostPath", {}).get("path")
    if not path:
        raise NotYet(f'persistentvolumeclaim "{name}": volume {volume_name} is not a directory of this machine')
    directory = Path(path)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


async def _data(
    cluster: Cluster, namespace: str, name: str, *, secret: bool, optional: bool, in_environment: bool = False
) -> dict[str, bytes]:
    resource = SECRETS if secret else CONFIG_MAPS
    try:
        obj = await cluster.get(resource, name, namespace)
    except NotFound:
        if optional:
            return {}
        missing = BadConfig if in_environment else NotYet
        raise missing(f'{resource.kind.lower()} "{name}" not found') from None
    plain = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
    if secret:
        return {key: base64.b64decode(value) for key, value in plain.items()}
    binary = {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    return plain | binary


async def environment(cluster: Cluster, pod: Object, container: Object) -> dict[str, str]:
    """The container's own variables, references resolved. Raises `NotYet`."""
    namespace = pod["metadata"]["namespace"]
    result: dict[str, str] = {}
    for source in container.get("envFrom", []):
        reference = source.get("configMapRef") or source.get("secretRef") or {}
        secret, optional = "secretRef" in source, reference.get("optional", False)
        data = await _data(cluster, namespace, reference["name"], secret=secret, optional=optional, in_environment=True)
        result |= {source.get("prefix", "") + key: _text(value, key, reference["name"]) for key, value in data.items()}
    for variable in container.get("env", []):
        if (source := variable.get("valueFrom")) is not None:
            value = await _reference(cluster, pod, container, source)
            if value is not None:
                result[variable["name"]] = value
        else:
            result[variable["name"]] = expand(variable.get("value", ""), result)
    return result


async def _reference(cluster: Cluster, pod: Object, container: Object, source: Object) -> str | None:
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return _resource(container, source["resourceFieldRef"])
    secret = "secretKeyRef" in source
    reference = source["secretKeyRef" if secret else "configMapKeyRef"]
    optional = reference.get("optional", False)
    name, key = reference["name"], reference["key"]
    data = await _data(cluster, pod["metadata"]["namespace"], name, secret=secret, optional=optional, in_environment=True)
    if key in data:
        return _text(data[key], key, name)
    if optional:
        return None
    raise BadConfig(f"couldn't find key {key} in {'Secret' if secret else 'ConfigMap'} {name}")


def _text(value: bytes, key: str, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadConfig(f"key {key} of {name} is not text and can't be an environment variable") from None


def _resource(container: Object, wanted: Object) -> str:
    kind, _, name = wanted["resource"].partition(".")
    given = container.get("resources", {}).get(kind, {}).get(name, "0")
    divisor = amount(str(wanted.get("divisor") or "1")) or 1.0
    return str(-int(-amount(str(given)) // divisor))


def field(pod: Object, path: str) -> str:
    """What the downward API gives for a field path such as `metadata.labels['x']` or `status.podIP`."""
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str(pod["metadata"].get(match.group(1), {}).get(match.group(2), ""))
    node: Any = pod
    for part in path.split("."):
        node = node.get(part, "") if isinstance(node, dict) else ""
    return str(node)


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` replaced as Kubernetes does: unknown names stay, `$$` is a dollar."""

    def one(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return values.get(match.group(1), match.group(0))

    return re.sub(r"\$\$|\$\(([\w.-]+)\)", one, text)
