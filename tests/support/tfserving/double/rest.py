"""The REST API: `/v1/models/NAME[/versions/N|/labels/L][:predict|:classify|:regress|/metadata]`."""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web
from google.protobuf.json_format import MessageToDict

from double import tensors
from double.models import State
from double.service import Service, require_method, signature_of
from double.status import Refused, invalid

MAX_BODY_BYTES = 1 << 30
WHICH = r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
ASKED = re.compile(rf"/v1/models/([^/:]+){WHICH}:(classify|regress|predict)", re.IGNORECASE)
TOLD = re.compile(rf"/v1/models(?:/([^/:]+))?{WHICH}(?:/(metadata))?", re.IGNORECASE)


def app_of(service: Service, monitoring_path: str | None) -> web.Application:
    """The web application."""

    async def handle(request: web.Request) -> web.Response:
        if monitoring_path is not None and request.path == monitoring_path:
            return web.Response(text=service.page(), content_type="text/plain")
        if not request.path.lower().startswith("/v1/"):
            return web.Response(status=404)
        try:
            return _json(await _answer(service, request))
        except Refused as refused:
            return _json({"error": str(refused)}, refused.code.http)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(content, indent=4, ensure_ascii=False), status=status, content_type="application/json")


async def _answer(service: Service, request: web.Request) -> dict[str, Any]:
    if request.method == "POST" and (asked := ASKED.fullmatch(request.path)):
        name, number, label, method = asked.groups()
        body = await request.read()
        if method.lower() == "predict":
            return await service.predict_json(name, _number(number), label, body)
        return _classify(service, name, _number(number), label, body, method.lower())
    if request.method == "GET" and (told := TOLD.fullmatch(request.path)):
        name, number, label, metadata = told.groups()
        if not name:
            raise invalid("Missing model name in request.")
        return _metadata(service, name, _number(number), label) if metadata else _status(service, name, _number(number), label)
    raise invalid(f"Malformed request: {request.method} {request.path}")


def _classify(service: Service, name: str, number: int | None, label: str | None, body: bytes, method: str) -> Any:
    request = tensors.parse(body)
    examples = request.get("examples")
    if examples is None:
        raise invalid(f"JSON Value: {json.dumps(request)} When method is classify, key 'examples' is expected and was not found")
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {json.dumps(request)} Expecting 'examples' value to be an list/array")
    _, version = service.models.find(name, number, label)
    assert version.loaded is not None
    require_method(signature_of(version.loaded, request.get("signature_name", "")), method)


def _status(service: Service, name: str, number: int | None, label: str | None) -> dict[str, Any]:
    return {
        "model_version_status": [
            {
                "version": str(one),
                "state": State(version.state).name,
                "status": {"error_code": "NOT_FOUND" if version.error else "OK", "error_message": version.error},
            }
            for one, version in service.models.status(name, number, label)
        ]
    }


def _metadata(service: Service, name: str, number: int | None, label: str | None) -> dict[str, Any]:
    found, signatures = service.signatures(name, number, label)
    described = {
        key: MessageToDict(signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for key, signature in signatures.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(found)},
        "metadata": {"signature_def": {"signature_def": described}},
    }


def _number(text: str | None) -> int | None:
    return int(text) if text else None
