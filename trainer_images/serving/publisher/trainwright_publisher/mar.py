"""A model archive for TorchServe: `model.pt2`, the artifact's manifest and our handler, the same bytes whenever it is made."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from typing import IO, Any

from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_packaging_utils import MANIFEST_FILE_NAME, MAR_INF, ModelExportUtils

from trainwright_publisher.artifact import Artifact
from trainwright_runtime.sealed import MANIFEST

MODEL = "model.pt2"
HANDLER = "trainwright_handler.py"
_HANDLER_SOURCE = Path(__file__).with_name("torchserve_handler.py")


def write(stream: IO[bytes], artifact: Artifact, *, model: str, version: int) -> None:
    """Write the archive, `model.pt2` being verified on its way.

    The archiver's own packing goes through a folder of fixed name in /tmp, which it empties first, and gives every archive
    other times: so of it there is only what must agree with TorchServe, the archive's manifest.
    """
    config = ModelArchiverConfig(model_name=model, handler=HANDLER, version=str(version), serialized_file=MODEL)
    about: dict[str, Any] = json.loads(ModelExportUtils.generate_manifest_json(config))
    about["createdOn"] = time.strftime("%d/%m/%Y %H:%M:%S", time.gmtime(artifact.manifest.time))
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, f"{MAR_INF}/{MANIFEST_FILE_NAME}", json.dumps(about, indent=1).encode())
        _add(archive, HANDLER, _HANDLER_SOURCE.read_bytes())
        _add(archive, MANIFEST, artifact.content)
        facts = artifact.facts_of(MODEL)
        entry = zipfile.ZipInfo(MODEL)
        # Known before: Java takes no entry that is stored and says how long it was only afterwards.
        entry.file_size = facts["bytes"]
        with archive.open(entry, "w") as inside:
            artifact.source.copy(MODEL, facts, inside)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), content)
