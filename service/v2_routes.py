"""Paths of the Open Inference Protocol: what there is, whether it is ready, and infer."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response

from service import v2
from service.access import service_of
from service.calls import Service
from service.descriptions import INFER, INFER_RESPONSES, MODEL, MODEL_READY, READY, SERVER, answer
from service.errors import NoModel
from service.request import ScoreRequest
from service.scores import ScoreResponse
from service.version import VERSION

router = APIRouter()


class InferWire:
    """A call of infer; `asked`: the model of its path, name or name:version."""

    counted = True
    media = ()  # clients of this protocol send none, JSON, or octets

    def __init__(self, asked: str, header_length: str | None) -> None:
        self._asked, self._header_length = asked, header_length
        self._infer: v2.Infer | None = None

    def read(self, body: bytes, max_candidates: int) -> ScoreRequest:
        """As `v2.parse`."""
        self._infer = v2.parse(body, self._header_length, self._asked, max_candidates)
        return self._infer.request

    def write(self, response: ScoreResponse, request_id: str) -> tuple[bytes, dict[str, str]]:
        """As `v2.answer`."""
        assert self._infer is not None
        return v2.answer(self._infer, response, request_id)


@router.get("/v2", summary="Server metadata (Open Inference Protocol)", responses=SERVER)
async def server_metadata(request: Request) -> dict[str, Any]:
    service_of(request)
    return {"name": "longtrail", "version": VERSION, "extensions": v2.EXTENSIONS}


@router.get("/v2/health/live", summary="The process answers", responses=answer({"live": True}))
async def live() -> dict[str, bool]:
    return {"live": True}


@router.get(
    "/v2/health/ready", summary="At least one bundle is loaded and warmed, and the scorer is not about to end", responses=READY
)
async def ready(request: Request, response: Response) -> dict[str, Any]:
    service: Service = request.app.state.service
    is_ready = bool(service.bundles.names) and not service.draining
    if not is_ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers.update(NoModel.headers)
    return {"ready": is_ready, "models": service.bundles.names}


@router.get("/v2/models/{model}", summary="Model metadata", responses=MODEL)
@router.get("/v2/models/{model}/versions/{version}", summary="Metadata of a version", responses=MODEL)
async def model_metadata(model: str, request: Request, version: str = "") -> dict[str, Any]:
    service = service_of(request)
    loaded = service.bundles.get(v2.named(model, version))
    return v2.metadata(model, sorted(service.bundles.served(model).loaded), loaded.bundle.manifest.calibrated)


@router.get("/v2/models/{model}/ready", summary="A model is loaded", responses=MODEL_READY)
@router.get("/v2/models/{model}/versions/{version}/ready", summary="A version is loaded", responses=MODEL_READY)
async def model_ready(model: str, request: Request, response: Response, version: str = "") -> dict[str, Any]:
    service = service_of(request)
    loaded = service.bundles.get(v2.named(model, version))
    content = {"name": model, "version": loaded.version, "ready": not service.draining}
    if service.draining:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers.update(NoModel.headers)
        content["error"] = "the scorer is about to end"
    return content


@router.post("/v2/models/{model}/infer", summary="Score", openapi_extra=INFER, responses=INFER_RESPONSES)
@router.post(
    "/v2/models/{model}/versions/{version}/infer", summary="Score by one version", openapi_extra=INFER, responses=INFER_RESPONSES
)
async def infer(model: str, request: Request, version: str = "") -> Response:
    service = service_of(request)
    return await service.score(request, InferWire(v2.named(model, version), request.headers.get(v2.HEADER_LENGTH)))
