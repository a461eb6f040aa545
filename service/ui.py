"""GET /ui: one page that shows why an item is first. It loads nothing from other hosts, and calls what everybody can call."""

from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.staticfiles import StaticFiles

from service.access import check_key
from service.calls import Service
from service.errors import InvalidRequest
from service.user_map import BINS

FOLDER = Path(__file__).parent / "page"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'"

router = APIRouter()


def add_page(app: FastAPI) -> None:
    """The page, what it loads, and what only it asks for."""
    app.include_router(router)
    app.mount("/ui/files", StaticFiles(directory=FOLDER))


@router.get("/ui", include_in_schema=False)
async def page() -> Response:
    return Response(
        (FOLDER / "index.html").read_bytes(), media_type="text/html; charset=utf-8",
        headers={"content-security-policy": POLICY, "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"},
    )  # fmt: skip


@router.get("/ui/users/{user_id:path}", summary="A user's behaviours, counted by category and time")
async def user_map(user_id: str, request: Request) -> Response:
    service: Service = request.app.state.service
    check_key(request, service.settings)
    bins = request.query_params.get("bins", str(BINS))
    if not bins.isascii() or not bins.isdigit() or len(bins) > 9:
        raise InvalidRequest(f"bins: {bins[:20]!r}, a number is needed", "bins")
    return await service.of_store(service.user_maps.of, user_id, int(bins))
