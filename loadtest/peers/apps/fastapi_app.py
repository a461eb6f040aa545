"""Plain FastAPI behind uvicorn, the floor: one process, each request in a thread of the pool."""

import os
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from loadtest.peers.apps.in_memory import PORT, InMemoryScorer

app = FastAPI()
scorer = InMemoryScorer()


class ScoreBody(BaseModel):
    """A request, as ours gets it."""

    user_id: str
    item_ids: list[str]
    model: str
    context: dict[str, Any]


@app.post("/score")
def score(body: ScoreBody) -> dict[str, list[float]]:
    """Score."""
    return {"scores": scorer.score(body.model_dump())}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ[PORT]), log_level="warning", access_log=False)
