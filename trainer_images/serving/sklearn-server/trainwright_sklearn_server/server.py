"""`trainwright-sklearn-server`: MLServer with one published version, over HTTP only, and nothing that could load another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainwright_runtime.exits import say
from trainwright_runtime.serving.environment import CLIENTS_PORT, METRICS_PORT, InvalidServerEnvironment, ServerEnvironment
from trainwright_runtime.serving.record import Layout, NotWhatWasPublished, require

EXIT_REFUSED = 3
EXIT_FAILED = 1
DRAIN_SECONDS = 20
BAD_REQUEST = 400


def main() -> None:
    """Entry point of `trainwright-sklearn-server`."""
    try:
        environment = ServerEnvironment.read()
        require(Layout(environment.models), version=environment.version, server="sklearn", expected=environment.record)
    except (InvalidServerEnvironment, NotWhatWasPublished, OSError) as fault:
        say(str(fault))
        raise SystemExit(EXIT_REFUSED) from None
    for name in [name for name in os.environ if name.startswith("MLSERVER_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="trainwright-") as folder:
        os.chdir(folder)
        raise SystemExit(asyncio.run(serve(environment, Path(folder))))


async def serve(environment: ServerEnvironment, folder: Path) -> int:
    """Serve until this process is asked to end; returns the exit code."""
    # After the check, which needs none of it: it takes seconds.
    import uvicorn  # noqa: PLC0415
    from fastapi.exceptions import RequestValidationError  # noqa: PLC0415
    from mlserver import MLServer, ModelSettings, Settings  # noqa: PLC0415
    from mlserver.rest.app import create_app  # noqa: PLC0415
    from mlserver.rest.responses import Response  # noqa: PLC0415
    from mlserver.settings import ModelParameters  # noqa: PLC0415

    from trainwright_sklearn_server.model import PublishedPipeline  # noqa: PLC0415

    class Http(uvicorn.Server):  # type: ignore[misc]
        """One that leaves the process's signals alone."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    class Server(MLServer):  # type: ignore[misc]
        """MLServer without gRPC and without the API that loads and unloads models."""

        def _add_signal_handlers(self) -> None:
            self.asked_to_end = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self.asked_to_end.set)

        def _create_servers(self) -> None:
            app = create_app(
                self._settings, data_plane=self._data_plane, model_repository_handlers=self._model_repository_handlers
            )
            kept = [route for route in app.router.routes if not str(getattr(route, "path", "")).startswith("/v2/repository")]
            app.router.routes[:] = kept
            app.add_exception_handler(RequestValidationError, _say_what_is_wrong)
            self.http = [
                self._listening(app, CLIENTS_PORT),
                self._listening(self._metrics_server._app, METRICS_PORT),
            ]

        def _listening(self, app: Any, port: int) -> Http:
            config = uvicorn.Config(
                app,
                host=environment.address,
                port=port,
                access_log=False,
                log_level="warning",
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
            return Http(config)

        async def add_custom_handlers(self, model: Any) -> Any:
            return model

        async def serve(self, model: ModelSettings) -> int:
            """The model first: who can connect is answered."""
            try:
                await self._model_registry.load(model)
            except Exception as error:
                say(f"the model can't be loaded: {type(error).__name__}: {' '.join(str(error).split())}"[:400])
                return EXIT_FAILED
            say(f"version {environment.version} of {environment.model} answers on {environment.address}:{CLIENTS_PORT}")
            running = [asyncio.create_task(_until_it_ends(one)) for one in self.http]
            asked = asyncio.create_task(self.asked_to_end.wait())
            await asyncio.wait([*running, asked], return_when=asyncio.FIRST_COMPLETED)
            for one in self.http:
                one.should_exit = True
            await asyncio.gather(*running)
            return 0 if asked.done() else EXIT_FAILED

        async def close(self) -> None:
            """End the workers, where there are any."""
            if self._inference_pool_registry:
                await self._inference_pool_registry.close()

    async def _say_what_is_wrong(_request: Any, error: Any) -> Any:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return Response(status_code=BAD_REQUEST, content={"error": f"{field}: {first['msg']}" if field else first["msg"]})

    settings = Settings(
        debug=False,
        host=environment.address,
        http_port=CLIENTS_PORT,
        metrics_port=METRICS_PORT,
        metrics_dir=str(folder),
        environments_dir=str(folder),
        model_repository_root=str(folder),
        load_models_at_startup=False,
        # One of ours needs no process of its own.
        parallel_workers=environment.workers if environment.workers > 1 else 0,
        gzip_enabled=False,
    )
    model = ModelSettings(
        name=environment.model,
        implementation=PublishedPipeline,
        parameters=ModelParameters(
            version=str(environment.version),
            extra={
                "models": str(environment.models),
                "version": environment.version,
                "record": environment.record,
                "batch_size": environment.batch_size,
                "batch_delay": environment.batch_delay,
            },
        ),
    )
    server = Server(settings)
    try:
        return await server.serve(model)
    finally:
        await server.close()


async def _until_it_ends(http: Any) -> None:
    try:
        await http.serve()
    except SystemExit:
        # It says why itself: mostly, that the port is taken.
        return


if __name__ == "__main__":
    main()
