"""The port's adapter for a real API server.

Configuration and credentials come from the official Kubernetes client; requests go through its TLS settings as raw JSON,
because typed models cost more than the network on long lists. The client is imported where it is first needed: that takes half
a second, which a command that asks no cluster shall not cost.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml

from trainwright.cluster.answers import answered_error
from trainwright.cluster.port import (
    PODS,
    ClusterError,
    NotFound,
    Object,
    ObjectList,
    Resource,
    WatchEvent,
    WatchType,
)

if TYPE_CHECKING:
    from kubernetes.aio import client

REQUEST_TIMEOUT_SECONDS = 30.0
# Of a request to a pod, with megabytes in it.
POD_TIMEOUT_SECONDS = 300.0
# The server ends a watch after this time and we resume; a connection that has silently died is found no later than this.
WATCH_TIMEOUT_SECONDS = 240
MAX_CONNECTIONS = 64
LIST_PAGE = 500
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_REVIEWS = Resource("SelfSubjectAccessReview", "selfsubjectaccessreviews", "authorization.k8s.io", namespaced=False)

Observer = Callable[[str, str, int], None]
"""Told of every answer: verb, resource's plural, HTTP code (0 without an answer)."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach an API server, for a library that opens its own connections. Files are paths; None where there is none."""

    server: str
    ca_file: str | None
    insecure: bool
    certificate_file: str | None
    key_file: str | None
    scheme: str | None
    token: str | None


class KubeCluster:
    """One API server, one identity. Make it with `connect`, inside a running event loop.

    `namespace` is the context's own, for whoever is not told another.
    """

    def __init__(
        self, configuration: client.Configuration, *, observer: Observer | None = None, namespace: str = "default"
    ) -> None:
        from kubernetes.aio import client  # noqa: PLC0415

        self.configuration = configuration
        self.namespace = namespace
        self._observer = observer
        self._context: ssl.SSLContext = client.ApiClient(configuration).rest_client.ssl_context
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._context, limit=MAX_CONNECTIONS),
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS, connect=10),
            read_bufsize=2**21,
            trust_env=False,
        )

    @classmethod
    async def connect(
        cls, *, kubeconfig: Path | str | None = None, context: str | None = None, observer: Observer | None = None
    ) -> KubeCluster:
        """Connect by a kubeconfig (an explicit path, else KUBECONFIG, else ~/.kube/config) or, in a pod, by its service account.

        Raises `ClusterError` when none of them is usable.
        """
        from kubernetes.aio import client, config  # noqa: PLC0415

        configuration = client.Configuration()
        try:
            if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                namespace = _OWN_NAMESPACE.read_text().strip() if _OWN_NAMESPACE.exists() else None
            else:
                loaded = await config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=str(kubeconfig) if kubeconfig else None, context=context, client_configuration=configuration
                )
                namespace = loaded.current_context["context"].get("namespace")
        except (config.ConfigException, OSError, ValueError) as error:
            raise ClusterError(_no_such_context(kubeconfig, context) or f"no usable kubeconfig: {error}") from error
        except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
            # A file that is no kubeconfig at all: the client's reader stumbles over it.
            why = " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else "no clusters, users and contexts in it"
            raise ClusterError(f"{kubeconfig or 'what KUBECONFIG names'} is no kubeconfig: {why}") from error
        return cls(configuration, observer=observer, namespace=namespace or "default")

    @staticmethod
    def contexts(kubeconfig: Path | str | None = None) -> tuple[str, ...]:
        """Names of the contexts of a kubeconfig (None: as `connect` chooses). Raises `ClusterError`."""
        from kubernetes.aio import config  # noqa: PLC0415

        try:
            found, _ = config.list_kube_config_contexts(str(kubeconfig) if kubeconfig else None)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError, ValueError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
            raise ClusterError(f"no usable kubeconfig: {error}") from error
        return tuple(str(one["name"]) for one in found)

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return await self._json("GET", resource, resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        without: Mapping[str, str] | None = None,
    ) -> ObjectList:
        params = {**_selector(labels, without), "limit": str(LIST_PAGE)}
        items: list[Object] = []
        while True:
            page = await self._json("GET", resource, resource.path(namespace), params=params, verb="list")
            # Items of a list come without their kind; give it back so that an object is whole wherever it goes.
            items += [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in page["items"]]
            token = page["metadata"].get("continue")
            if not token:
                return ObjectList(items=items, resource_version=page["metadata"]["resourceVersion"])
            params["continue"] = token

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        without: Mapping[str, str] | None = None,
        resource_version: str,
    ) -> AsyncIterator[WatchEvent]:
        params = {
            **_selector(labels, without),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_TIMEOUT_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=WATCH_TIMEOUT_SECONDS + 15)
        try:
            async with self._session.get(
                self._url(resource.path(namespace)), params=params, headers=await self._headers(), timeout=timeout
            ) as response:
                self._saw("watch", resource, response.status)
                if response.status >= 400:
                    raise answered_error(response.status, await response.text(), response.headers)
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise answered_error(int(event["object"].get("code", 500)), json.dumps(event["object"]), {})
                    yield WatchEvent(WatchType(event["type"]), event["object"])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._saw("watch", resource, 0)
            raise ClusterError(f"watch of {resource.plural} broke off: {_reason(error)}") from error

    async def create(self, resource: Resource, obj: Object) -> Object:
        # Strict: a field that the server would drop is a mistake of whoever wrote it.
        params = {"fieldValidation": "Strict"}
        return await self._json("POST", resource, resource.path(_namespace(obj)), body=obj, params=params, verb="create")

    async def apply(self, resource: Resource, obj: Object, *, manager: str = "trainwright") -> Object:
        return await self._json(
            "PATCH",
            resource,
            resource.path(_namespace(obj), obj["metadata"]["name"]),
            body=obj,
            params={"fieldManager": manager, "force": "true"},
            content_type="application/apply-patch+yaml",
            verb="apply",
        )

    async def patch(
        self, resource: Resource, name: str, namespace: str | None, patch: Object, *, subresource: str | None = None
    ) -> Object:
        return await self._json(
            "PATCH",
            resource,
            resource.path(namespace, name, subresource),
            body=patch,
            content_type="application/merge-patch+json",
            verb="patch",
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        grace_seconds: int | None = None,
    ) -> None:
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        await self._json("DELETE", resource, resource.path(namespace, name), body=options)

    async def logs(self, name: str, namespace: str, *, container: str | None = None, tail_lines: int | None = None) -> str:
        params = {}
        if container:
            params["container"] = container
        if tail_lines is not None:
            params["tailLines"] = str(tail_lines)
        return (await self._request("GET", PODS, PODS.path(namespace, name, "log"), params=params, verb="logs")).decode(
            errors="replace"
        )

    async def stream_logs(self, name: str, namespace: str, *, tail_lines: int | None = None) -> AsyncIterator[bytes]:
        """Follow a pod's log as the kubelet sends it, until the container ends."""
        params = {"follow": "true"} | ({"tailLines": str(tail_lines)} if tail_lines is not None else {})
        url = self._url(PODS.path(namespace, name, "log"))
        timeout = aiohttp.ClientTimeout(total=None, connect=10)
        try:
            async with self._session.get(url, params=params, headers=await self._headers(), timeout=timeout) as response:
                if response.status >= 400:
                    raise answered_error(response.status, await response.text(), response.headers)
                async for chunk in response.content.iter_any():
                    yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise ClusterError(f"log of {name} broke off: {_reason(error)}") from error

    async def ask_pod(
        self, method: str, name: str, namespace: str, port: int, path: str, *, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """What a pod answers over HTTP, asked through the API server, which keeps an `Authorization` for itself."""
        url = self._url(PODS.path(namespace, f"{name}:{port}", f"proxy{path}"))
        timeout = aiohttp.ClientTimeout(total=POD_TIMEOUT_SECONDS, connect=10)
        try:
            async with self._session.request(
                method, url, data=data, headers={**await self._headers(), **headers}, timeout=timeout
            ) as response:
                self._saw("proxy", PODS, response.status)
                content = await response.read()
                if response.status >= 400 and b'"kind":"Status"' in content:
                    raise answered_error(response.status, content.decode(errors="replace"), response.headers)
                return response.status, content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._saw("proxy", PODS, 0)
            raise ClusterError(f"no answer from {name} through {self.configuration.host}: {_reason(error)}") from error

    async def version(self) -> str:
        answer = json.loads(await self._request("GET", None, "/version", verb="get"))
        return str(answer["gitVersion"])

    async def discover(self, group: str) -> dict[str, tuple[str, ...]]:
        try:
            found = json.loads(await self._request("GET", None, f"/apis/{group}", verb="get"))
        except NotFound:
            return {}
        preferred = found["preferredVersion"]["groupVersion"]
        served = sorted((one["groupVersion"] for one in found["versions"]), key=lambda one: one != preferred)
        kinds: dict[str, tuple[str, ...]] = {}
        for group_version in served:
            listed = json.loads(await self._request("GET", None, f"/apis/{group_version}", verb="get"))
            # Subresources are listed too, as `pods/log`.
            names = {one["kind"] for one in listed["resources"] if "/" not in one["name"]}
            kinds[group_version.rpartition("/")[2]] = tuple(sorted(names))
        return kinds

    async def may(self, verb: str, resource: Resource, namespace: str | None = None, *, subresource: str = "") -> bool:
        attributes = {"verb": verb, "group": resource.group, "resource": resource.plural, "subresource": subresource}
        review = {
            "apiVersion": _REVIEWS.api_version,
            "kind": _REVIEWS.kind,
            "metadata": {},
            "spec": {"resourceAttributes": {**attributes, "namespace": namespace or ""}},
        }
        return bool((await self.create(_REVIEWS, review))["status"]["allowed"])

    async def access(self) -> Access:
        """The same server and identity, for kopf."""
        scheme, _, token = (await self._headers()).get("authorization", "").partition(" ")
        return Access(
            server=self.configuration.host,
            ca_file=self.configuration.ssl_ca_cert,
            insecure=not self.configuration.verify_ssl,
            certificate_file=self.configuration.cert_file,
            key_file=self.configuration.key_file,
            scheme=scheme or None,
            token=token or None,
        )

    async def ready(self) -> None:
        """Return if the server has finished its own start, RBAC's bootstrap included; raises `ClusterError` otherwise."""
        await self._request("GET", None, "/readyz", verb="get")

    async def close(self) -> None:
        await self._session.close()
        # aiohttp closes TLS transports in the next turn of the loop.
        await asyncio.sleep(0)

    async def _json(
        self,
        method: str,
        resource: Resource,
        path: str,
        *,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        verb: str | None = None,
    ) -> Object:
        data = await self._request(method, resource, path, body=body, params=params, content_type=content_type, verb=verb)
        answer: Object = json.loads(data)
        return answer

    async def _request(
        self,
        method: str,
        resource: Resource | None,
        path: str,
        *,
        body: Object | None = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        verb: str | None = None,
    ) -> bytes:
        verb = verb or method.lower()
        headers = await self._headers()
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = content_type
        try:
            async with self._session.request(method, self._url(path), params=params, data=data, headers=headers) as response:
                self._saw(verb, resource, response.status)
                content = await response.read()
                if response.status >= 400:
                    raise answered_error(
                        response.status, content.decode(errors="replace"), response.headers, creating=method == "POST"
                    )
                return content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._saw(verb, resource, 0)
            raise ClusterError(f"{verb} {path}: no answer from {self.configuration.host}: {_reason(error)}") from error

    def _url(self, path: str) -> str:
        return f"{self.configuration.host.rstrip('/')}{path}"

    async def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "trainwright"}
        settings: Any = await self.configuration.auth_settings()
        for setting in settings.values():
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"]
        return headers

    def _saw(self, verb: str, resource: Resource | None, code: int) -> None:
        if self._observer is not None:
            self._observer(verb, resource.plural if resource else "", code)


def _no_such_context(kubeconfig: Path | str | None, wanted: str | None) -> str:
    """What to say when the wanted context is not among those that there are; nothing otherwise."""
    try:
        names = KubeCluster.contexts(kubeconfig)
    except ClusterError:
        return ""
    if wanted is None or wanted in names:
        return ""
    return f"there is no context {wanted} in {kubeconfig or 'the kubeconfig'}; its contexts are: {', '.join(names) or 'none'}"


def _selector(labels: Mapping[str, str] | None, without: Mapping[str, str] | None) -> dict[str, str]:
    terms = [f"{key}={value}" for key, value in (labels or {}).items()]
    terms += [f"{key}!={value}" for key, value in (without or {}).items()]
    return {"labelSelector": ",".join(terms)} if terms else {}


def _namespace(obj: Object) -> str | None:
    namespace: str | None = obj["metadata"].get("namespace")
    return namespace


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
