"""`deitkit serve`: a web page and an HTTP API for one model, on this machine."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.options import Device, model_argument
from deitkit.errors import DeitkitError, require

if TYPE_CHECKING:
    from deitkit.serve.answerer import Answerer

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PACKAGES = ("fastapi", "uvicorn", "python_multipart")


def serve(
    model: Annotated[str, model_argument("RUN|MODEL", "RUN, RUN@best, a model folder, timm:NAME.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where it listens; 0 is any free one.")] = 8000,
    host: Annotated[str, typer.Option("--host", help="Who may ask: 0.0.0.0 is the whole network.")] = LOOPBACK[0],
    neighbours: Annotated[
        bool, typer.Option("--neighbours", help="Embed the training images first, to show the nearest.")
    ] = False,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, max=1024, help="MiB of one request.")] = 32,
    max_images: Annotated[int, typer.Option("--max-images", min=1, help="Images of one request.")] = 64,
    max_pixels: Annotated[int, typer.Option("--max-pixels", min=1, help="Pixels of one image.")] = 50_000_000,
    device: Device = "auto",
) -> None:
    """Show a model on a local web page, and answer programs over HTTP.

    The page takes an image and shows every head's answer, what its tokens read, and the nearest training images where
    their embeddings are kept. POST /predict takes an image, or a form of several; /healthz says whether it answers,
    /openapi.json how to ask. Ctrl-C ends it.

    Example: deitkit serve runs/quickstart/student_32 --port 0
    Example: deitkit serve runs/mine --neighbours
    Example: deitkit serve models/mine --port 9000 --device cuda
    """
    require("serving", *PACKAGES, extra="serve")
    with listening(host, port) as listener:
        from deitkit.serve.app import Limits, create_app

        answerer = answerer_of(model, device=device, max_pixels=max_pixels, neighbours=neighbours)
        hosts = [*LOOPBACK, "[::1]"] if host in LOOPBACK else ["*"]
        app = create_app(answerer, name=model, hosts=hosts, limits=Limits(max_mb, max_images))
        name = host if ":" not in host else f"[{host}]"
        render.say(f"{model} answers on http://{name}:{listener.getsockname()[1]} (Ctrl-C ends it)")
        if host not in LOOPBACK:
            render.say("whoever reaches this machine may ask it: there is no password")
        run_server(app, listener)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        DeitkitError: the port is in use, or the host is none of this machine's.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise DeitkitError(f"port {port} is in use", value=port, remedy="--port OTHER, or --port 0") from error
        if error.errno == errno.EACCES:
            raise DeitkitError(f"port {port} is the system's", value=port, remedy="--port 8000") from error
        raise DeitkitError(
            f"cannot listen on {host}: {error.strerror}", value=host, remedy="--host 127.0.0.1"
        ) from error
    return listener


def answerer_of(model: str, *, device: str, max_pixels: int, neighbours: bool) -> Answerer:
    from deitkit.cli.progress import Progress
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_classifier
    from deitkit.serve.answerer import Answerer
    from deitkit.serve.neighbours import Neighbours

    loaded = load_classifier(model)
    with Progress() as progress:
        near = Neighbours.of(
            model, loaded, make=neighbours, progress=lambda done, total: progress("embedding", done, total)
        )
    return Answerer(loaded, pick_device(device), max_pixels, near)


def run_server(app: Any, listener: socket.socket) -> None:
    """Until a signal ends it; requests that have begun are answered."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[listener])
