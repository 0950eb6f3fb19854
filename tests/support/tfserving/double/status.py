"""What TensorFlow Serving answers when something is wrong: a canonical code and a message, over HTTP and gRPC."""

from __future__ import annotations

import enum

import grpc


class Code(enum.Enum):
    """Canonical codes: the number in StatusProto, the status over HTTP, the one of gRPC."""

    INVALID_ARGUMENT = (3, 400, grpc.StatusCode.INVALID_ARGUMENT)
    NOT_FOUND = (5, 404, grpc.StatusCode.NOT_FOUND)
    FAILED_PRECONDITION = (9, 412, grpc.StatusCode.FAILED_PRECONDITION)
    UNIMPLEMENTED = (12, 501, grpc.StatusCode.UNIMPLEMENTED)
    INTERNAL = (13, 500, grpc.StatusCode.INTERNAL)
    UNKNOWN = (2, 500, grpc.StatusCode.UNKNOWN)

    @property
    def number(self) -> int:
        return self.value[0]

    @property
    def http(self) -> int:
        return self.value[1]

    @property
    def grpc(self) -> grpc.StatusCode:
        return self.value[2]


class Refused(Exception):
    """A request, or a configuration, that is refused."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> Refused:
    return Refused(Code.INVALID_ARGUMENT, message)
