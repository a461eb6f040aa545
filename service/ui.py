"""GET /ui: one page that shows why an item is first. It loads nothing from other hosts, and asks for what stands below it."""

from pathlib import Path

import orjson
from fastapi import APIRouter, HTTPException, Request, Response
from starlette.responses import FileResponse

from service.access import service_of
from service.bundles import Bundles
from service.calls import JSON, Service
from service.errors import InvalidRequest, ScorerError
from service.request import LOOK, ScoreRequest, parse
from service.scores import ScoreResponse
from service.user_map import BINS
from store.types import FIRST_KNOWN, MAX_TS

FOLDER = Path(__file__).parent / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "frame-ancestors 'none'"
)
FILES = {path.name: path for path in FOLDER.iterdir() if path.suffix in (".js", ".css")}
MAX_SHOWN = 200  # candidates

router = APIRouter()


class PageWire:
    """As /score, but all that the search picked is told, and the candidates' categories. Somebody looks on: that is in no
    metric of scoring and in no data of the next training."""

    media, counted = JSON, False

    def __init__(self, bundles: Bundles) -> None:
        self._bundles, self._item_ids = bundles, [""]

    def read(self, body: bytes, max_candidates: int) -> ScoreRequest:
        """A body of /score; what it says of `explain` does not count."""
        request = parse(body, min(max_candidates, MAX_SHOWN))
        self._item_ids = request.item_ids
        return request.model_copy(update={"explain": LOOK})

    def write(self, response: ScoreResponse, request_id: str) -> tuple[bytes, dict[str, str]]:
        """The answer of /score, `categories`, and `picked` as picked.py has it."""
        registry = self._bundles.get(f"{response.model}:{response.version}").bundle.registry
        names, rows = registry.category_names, registry.candidates(self._item_ids).category.tolist()
        categories = [names[row - FIRST_KNOWN] if row >= FIRST_KNOWN else None for row in rows]
        more = orjson.dumps({"categories": categories, "picked": response.picked}, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = response.to_json(request_id, explained=False).removesuffix(b"}")
        return answer + b"," + more.removeprefix(b"{"), {"content-type": "application/json"}


@router.get("/ui", include_in_schema=False)
async def page() -> Response:
    return Response(
        (FOLDER / "index.html").read_bytes(), media_type="text/html; charset=utf-8",
        headers={"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"},
    )  # fmt: skip


@router.get("/ui/files/{name}", include_in_schema=False)
async def file(name: str) -> Response:
    if name not in FILES:
        raise HTTPException(404)
    # asked for again each time: files of two versions of the page do not go together
    return FileResponse(FILES[name], headers={"x-content-type-options": "nosniff", "cache-control": "no-cache"})


@router.get("/ui/start", include_in_schema=False)
async def start(request: Request) -> Response:
    service = service_of(request)
    return await service.of_store(_beginning, service)


def _beginning(service: Service) -> bytes:
    """Models are known without the store; users are none while it is away."""
    names, loaded = service.bundles.names, service.bundles.loaded
    several = [f"{one.model}:{one.version}" for one in loaded if [other.model for other in loaded].count(one.model) > 1]
    try:
        default = service.bundles.get(None).model
    except ScorerError:  # none is named by a setting, and the usual one is not served
        default = next(iter(names), "")
    try:
        users = service.user_maps.some()
    except ScorerError:
        users = []
    return orjson.dumps({"data": service.bundles.data, "models": [*names, *several], "default": default, "users": users})


@router.post("/ui/score", include_in_schema=False)
async def score(request: Request) -> Response:
    service = service_of(request)
    return await service.score(request, PageWire(service.bundles))


@router.get("/ui/users/{user_id:path}", include_in_schema=False)
async def user_map(user_id: str, request: Request) -> Response:
    service = service_of(request)
    bins, at = _number(request, "bins", BINS), _number(request, "at", MAX_TS)
    return await service.of_store(service.user_maps.of, user_id, bins, at)


def _number(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name, str(default))
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise InvalidRequest(f"{name}: {given[:20]!r}, a number is needed", name)
    return int(given)
