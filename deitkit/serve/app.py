"""The HTTP side of `deitkit serve`: a page, /predict, /explain, /model, /healthz, within limits. Computes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.datastructures import UploadFile
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel
from deitkit.serve.answerer import Answerer
from deitkit.version import __version__

PAGE = Path(__file__).with_name("page.html")
MIB = 2**20
FORM = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
        }
    },
    "image/*": {"schema": {"type": "string", "format": "binary"}},
}


@dataclass(frozen=True)
class Limits:
    """Of one request: MiB in all, and image files. How many pixels an image may have is the model's reading's."""

    megabytes: int = 32
    images: int = 64


def create_app(answerer: Answerer, *, name: str, hosts: list[str], limits: Limits = Limits()) -> FastAPI:
    """The application for any ASGI server. `name` is what the model is called; `hosts` the names by which it is asked,
    so that no page from elsewhere reaches it under a name of its own."""
    app = FastAPI(title=f"deitkit serve {name}", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit, most=limits.megabytes * MIB)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return PAGE.read_text(encoding="utf-8")

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether it answers."""
        return {"status": "ok", "model": name}

    @app.get("/model")
    def model() -> dict[str, Any]:
        """The model: its classes, and the size in pixels at which it looks."""
        return {"model": name, **_facts(answerer.model), "limits": asdict(limits)}

    @app.post("/predict", openapi_extra={"requestBody": {"content": FORM, "required": True}})
    async def predict(request: Request, top: int = Query(5, ge=1, le=1000)) -> JSONResponse:
        """Each head's best classes of one image, the body, or of several, the form's files. What is no image has a
        problem; where none is one, the status is 422."""
        files = await _files(request, limits)
        found = await run_in_threadpool(answerer.classify, files, top=top)
        status = 422 if all(image.problem for image in found) else 200
        return JSONResponse({"model": name, "images": [image.as_dict() for image in found]}, status_code=status)

    @app.post("/explain", openapi_extra={"requestBody": {"content": FORM, "required": True}})
    async def explain(request: Request, top: int = Query(5, ge=1, le=1000)) -> dict[str, Any]:
        """One image's answer with pictures of the attention and the nearest training images."""
        return await _explained(answerer, await _files(request, limits), top=top)

    return app


def _facts(model: LoadedModel) -> dict[str, Any]:
    return {
        "architecture": model.student.architecture,
        "classes": list(model.info.class_names),
        "heads": ["class", "distillation", "fused"] if model.student.distilled else ["class"],
        "size": list(model.info.size),
    }


async def _explained(answerer: Answerer, files: list[tuple[str, bytes]], *, top: int) -> dict[str, Any]:
    if len(files) > 1:
        raise HTTPException(422, "one image at a time")
    try:
        return await run_in_threadpool(answerer.explain, *files[0], top=top)
    except DeitkitError as error:
        raise HTTPException(422, error.what) from error


async def _files(request: Request, limits: Limits) -> list[tuple[str, bytes]]:
    """(name, content) of the images of a request: the files of its form, or its body."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=limits.images, max_fields=limits.images) as form:
            uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            files = [(upload.filename or f"image {place}", await upload.read()) for place, upload in enumerate(uploads)]
    else:
        body = await request.body()
        files = [("image", body)] if body else []
    if not files:
        raise HTTPException(
            422, "no image: send one as the body, or several as files of a form (curl -F images=@cat.jpg)"
        )
    return files


class BodyLimit:
    """Refuses a request whose body is larger, by what it says of itself or, where it says nothing, as it comes."""

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said) > self.most:
            await self._refuse(scope, receive, send)
            return
        limited = _Counting(receive, self.most)
        answered = _Answered(send)
        try:
            await self.app(scope, limited, answered)
        except _TooLarge:
            if not answered.begun:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"more than {self.most // MIB} MiB in one request"
        await JSONResponse({"detail": detail}, status_code=413)(scope, receive, send)


class _TooLarge(Exception):
    pass


class _Counting:
    """A request's body, up to so many bytes."""

    def __init__(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]], most: int) -> None:
        self.receive, self.left = receive, most

    async def __call__(self) -> Message:
        message = await self.receive()
        self.left -= len(message.get("body", b""))
        if self.left < 0:
            raise _TooLarge
        return message


class _Answered:
    """Whether an answer has begun: then there is no other."""

    def __init__(self, send: Send) -> None:
        self.send, self.begun = send, False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self.send(message)
