"""Paths that change what is served, for the admin key: versions loaded and unloaded, labels."""

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.access import admin_of
from service.calls import Service
from service.descriptions import INDEX, LABELS_GOT, LABELS_PUT, LOAD, UNLOAD, body_of
from service.labels import Labels
from service.request import check, read_object

router = APIRouter()


class Index(BaseModel):
    """The body of a call of index; it may be absent."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    ready: bool = Field(False, description="Only versions that are served.")


class LoadParameters(BaseModel):
    """What a call of load may state; what other servers know beside it is refused, for it would do nothing here."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: str | None = Field(None, description="Which version; absent = the newest of its folder.")


class Load(BaseModel):
    """The body of a call of load; it may be absent."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    parameters: LoadParameters = LoadParameters()


class Unload(BaseModel):
    """The body of a call of unload; it may be absent."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    parameters: dict[str, Any] = Field(default_factory=dict, description="Nothing here reads them.")


@router.post(
    "/v2/repository/index", summary="Every version of every model in the folder (admin key)",
    openapi_extra={"requestBody": body_of(Index, required=False)}, responses=INDEX,
)  # fmt: skip
async def index(request: Request) -> Response:
    service = admin_of(request)
    asked = check(Index, await _object(service, request), "", 0)
    # not in the thread of changes: what is there can be seen while a version is loaded
    return Response(await asyncio.to_thread(_index, service, asked.ready), media_type="application/json")


@router.post(
    "/v2/repository/models/{model}/load", summary="Make a version the stable one (admin key)",
    openapi_extra={"requestBody": body_of(Load, required=False)}, responses=LOAD,
)  # fmt: skip
async def load(model: str, request: Request) -> Response:
    service = admin_of(request)
    asked = check(Load, await _object(service, request), "", 0)
    return await service.of_admin(_load, service, model, asked.parameters.version)


@router.post(
    "/v2/repository/models/{model}/unload", summary="Serve a model no longer (admin key)",
    openapi_extra={"requestBody": body_of(Unload, required=False)}, responses=UNLOAD,
)  # fmt: skip
async def unload(model: str, request: Request) -> Response:
    service = admin_of(request)
    check(Unload, await _object(service, request), "", 0)
    return await service.of_admin(_unload, service, model)


@router.get("/admin/models/{model}/labels", summary="Which version is stable, canary, shadow (admin key)", responses=LABELS_GOT)
async def labels(model: str, request: Request) -> Labels:
    return await asyncio.to_thread(admin_of(request).bundles.labels_of, model)


@router.put(
    "/admin/models/{model}/labels", summary="Give labels to versions, loading them (admin key)",
    openapi_extra={"requestBody": body_of(Labels)}, responses=LABELS_PUT,
)  # fmt: skip
async def put_labels(model: str, request: Request) -> Response:
    service = admin_of(request)
    wanted = check(Labels, read_object(await service.body_of(request)), "", 0)
    return await service.of_admin(_label, service, model, wanted)


async def _object(service: Service, request: Request) -> dict[str, Any]:
    """The body, that may be empty."""
    body = await service.body_of(request)
    return read_object(body) if body.strip() else {}


def _index(service: Service, ready: bool) -> bytes:
    return orjson.dumps([one for one in service.bundles.states() if one["state"] == "READY" or not ready])


def _load(service: Service, model: str, version: str | None) -> bytes:
    loaded = service.bundles.load(model, version)
    return orjson.dumps({"name": loaded.model, "version": loaded.version})


def _unload(service: Service, model: str) -> bytes:
    service.bundles.unload(model)
    return b"{}"


def _label(service: Service, model: str, wanted: Labels) -> bytes:
    return service.bundles.label(model, wanted).model_dump_json().encode()
