"""The gRPC services: PredictionService.Predict and GetModelMetadata, ModelService.GetModelStatus and HandleReloadConfigRequest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from double.service import DEFAULT_SIGNATURE, Service
from double.status import Refused, invalid


def _asked_for(spec: Any) -> tuple[str, int | None, str | None]:
    """Model, version, label."""
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    return (
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


async def _refusing(context: Any, work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await work()
    except Refused as refused:
        await context.abort(refused.code.grpc, str(refused))


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, and what signatures there are."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Predict(self, request: Any, context: Any) -> Any:
        async def work() -> Any:
            spec = request.model_spec
            inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
            number, outputs = await self._service.predict(*_asked_for(spec), spec.signature_name, inputs, protocol="gRPC")
            if unknown := set(request.output_filter) - set(outputs):
                raise invalid(f"output tensor alias not found in signature: {min(unknown)}")
            response = predict_pb2.PredictResponse()
            response.model_spec.name = spec.name
            response.model_spec.version.value = number
            response.model_spec.signature_name = spec.signature_name or DEFAULT_SIGNATURE
            for name in request.output_filter or outputs:
                response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
            return response

        return await _refusing(context, work)

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        async def work() -> Any:
            if not request.metadata_field:
                raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
            for field in request.metadata_field:
                if field != "signature_def":
                    raise invalid(f"Metadata field {field} is not supported")
            number, signatures = self._service.signatures(*_asked_for(request.model_spec))
            described = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in signatures.items():
                described.signature_def[name].CopyFrom(signature)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = number
            response.metadata["signature_def"].Pack(described)
            return response

        return await _refusing(context, work)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """What is loaded, and what shall be."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        async def work() -> Any:
            response = get_model_status_pb2.GetModelStatusResponse()
            for number, version in self._service.models.status(*_asked_for(request.model_spec)):
                status = response.model_version_status.add(version=number, state=int(version.state))
                status.status.error_code = version.code
                status.status.error_message = version.error
            return response

        return await _refusing(context, work)

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:
        async def work() -> Any:
            if request.config.WhichOneof("config") != "model_config_list":
                raise invalid(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
                )
            await self._service.models.reload(request.config.model_config_list)
            return model_management_pb2.ReloadConfigResponse()

        return await _refusing(context, work)


async def serve(service: Service, address: str) -> Any:
    """A server that listens there."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(service), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(service), server)
    server.add_insecure_port(address)
    await server.start()
    return server
