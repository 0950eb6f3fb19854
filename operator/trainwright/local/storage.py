"""Claims of the twin's storage class become directories: a volume is made for each, and goes when its claim has gone."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from trainwright.cluster.port import CLAIMS, VOLUMES, AlreadyExists, Cluster, ClusterError, NotFound, Object
from trainwright.controller.store import Store

log = logging.getLogger(__name__)

STORAGE_CLASS = "trainwright-local"
MADE_BY = {"trainwright.dev/provisioned-by": "process-node"}
RETRY_SECONDS = 2.0


class Provisioner:
    """`directory` says where a claim's data lies. With `keep`, directories outlive their claims."""

    def __init__(self, cluster: Cluster, directory: Callable[[Object], Path], *, keep: bool = False) -> None:
        self._cluster = cluster
        self._directory = directory
        self._keep = keep
        self._changed = asyncio.Event()
        wake = lambda _: self._changed.set()  # noqa: E731 - two stores, one bell
        self._claims = Store(cluster, CLAIMS, on_change=wake)
        self._volumes = Store(cluster, VOLUMES, labels=MADE_BY, on_change=wake)

    async def run(self) -> None:
        """Make and remove volumes until cancelled."""
        async with asyncio.TaskGroup() as group:
            for store in (self._claims, self._volumes):
                group.create_task(store.run())
            for store in (self._claims, self._volumes):
                await store.synced.wait()
            while True:
                self._changed.clear()
                try:
                    await self._pass()
                except ClusterError as error:
                    log.warning("storage: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                await self._changed.wait()

    async def _pass(self) -> None:
        claims = {claim["metadata"]["uid"]: claim for claim in self._claims.all()}
        served = {volume["spec"]["claimRef"]["uid"]: volume for volume in self._volumes.all()}
        for uid, claim in claims.items():
            if uid not in served and not claim["spec"].get("volumeName") and _ours(claim):
                try:
                    self._volumes.put(await self._cluster.create(VOLUMES, self._volume(claim)))
                except AlreadyExists:
                    log.debug("the volume of %s was made before", claim["metadata"]["name"])
        for uid, volume in served.items():
            if uid not in claims:
                await self._remove(volume)

    def _volume(self, claim: Object) -> Object:
        metadata = claim["metadata"]
        directory = self._directory(claim)
        directory.mkdir(parents=True, exist_ok=True)
        reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"} | {
            key: metadata[key] for key in ("namespace", "name", "uid")
        }
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"pvc-{metadata['uid']}", "labels": MADE_BY},
            "spec": {
                "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
                "accessModes": claim["spec"]["accessModes"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": claim["spec"].get("storageClassName", STORAGE_CLASS),
                "hostPath": {"path": str(directory)},
                "claimRef": reference,
            },
        }

    async def _remove(self, volume: Object) -> None:
        try:
            await self._cluster.delete(VOLUMES, volume["metadata"]["name"])
        except NotFound:
            log.debug("volume %s is gone already", volume["metadata"]["name"])
        self._volumes.remove(volume)
        if not self._keep:
            await asyncio.to_thread(shutil.rmtree, volume["spec"]["hostPath"]["path"], ignore_errors=True)


def _ours(claim: Object) -> bool:
    return bool(claim["spec"].get("storageClassName", STORAGE_CLASS) == STORAGE_CLASS)
