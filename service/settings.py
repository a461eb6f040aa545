"""Every knob of the scorer. Read once, in the entry point; the table is in service/README.md."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from service.device_options import DeviceOptions
from store.append import Caps
from store.connection import check_url

MAX_TTL_S = 10 * 366 * 86400
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(BaseModel):
    """Environment variables with the prefix CTR_; units are in the names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    redis_url: str = Field("", repr=False, description="Redis, Valkey or a cluster of them by URL; empty = the embedded store.")
    redis_read_url: str = Field("", repr=False, description="Where /score reads, a replica say; empty = as CTR_REDIS_URL.")
    store_folder: Path = Field(Path("runs/store"), description="Where the embedded store keeps its data.")
    store_timeout_ms: float = Field(8, gt=0, description="Longest wait for a reply of the store.")
    store_connect_timeout_ms: float = Field(20, gt=0, description="Longest wait for a new connection to the store.")
    bundles: Path = Field(Path("bundles"), description="Folder of the bundles.")
    bundles_poll_s: float = Field(
        0, ge=0, description="Seconds between two looks for new versions of models without labels; 0 = none, a call loads them."
    )  # fmt: skip
    data: str = Field("", description="Data set to serve; empty = the newest bundle's.")
    model: str = Field("", description="Model of requests that name none; empty = the only one, else twin.")
    providers: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where graphs run; auto = CUDA if there is one.")
    search: Literal["cpu", "device"] = Field("cpu", description="Who searches a life; device = the graph, where it can.")
    precision: Literal["float32", "float16"] = Field("float32", description="Of graphs that attend; float16 is for GPUs.")
    cuda_graphs: int = Field(64, ge=0, description="Shapes of each graph that are captured as CUDA graphs; 0 = none.")
    gpu_mem_limit_mb: int = Field(0, ge=0, description="GPU memory of each graph, its tables apart, in MiB; 0 = no limit.")
    tables: Literal["bundle", "store"] = Field(
        "bundle", description="Item tables: bundle = the bundles' own, mapped; store = published ones, through a cache."
    )  # fmt: skip
    table_poll_s: float = Field(5, gt=0, description="Seconds between two looks for newly published tables.")
    table_cache_mb: int = Field(256, ge=1, description="Memory for blocks of published tables, in MiB.")
    table_max_age_s: float = Field(0, ge=0, description="Older item tables are table_stale in degraded; 0 = never.")
    workers: int = Field(1, ge=1, le=64, description="Processes behind the one address; a parent replaces those that die.")
    request_threads: int = Field(2, ge=1, description="Requests worked on at the same time.")
    search_threads: int = Field(1, ge=1, description="Threads of the search within one request; answers are the same.")
    intra_op_threads: int = Field(1, ge=1, description="Threads of onnxruntime within one request.")
    drain_ms: float = Field(2000, ge=0, description="After SIGTERM: not ready, still serving, for so long.")
    max_in_flight: int = Field(
        64, ge=1, description="Calls working or waiting, of /score, /events and /users each; one more is answered 429."
    )  # fmt: skip
    queue_ms: float = Field(
        10, gt=0, description="Longest expected wait for a thread; a call of scoring that would wait longer is answered 429."
    )  # fmt: skip
    timeout_ms: float = Field(250, gt=0, description="Longest time for a request; its own timeout_ms can shorten it.")
    max_candidates: int = Field(1000, ge=1, description="Longest item_ids of a request.")
    max_events: int = Field(1000, ge=1, description="Most events of a call of /events.")
    tree_cap_per_category: int = Field(0, ge=0, description="Behaviours kept of a user in a category; 0 = all, or 100 up.")
    tree_cap_per_user: int = Field(131_072, ge=0, description="Behaviours kept of a user; 0 = all, or 1000 up.")
    user_ttl_s: int = Field(0, ge=0, le=MAX_TTL_S, description="How long a user without events is kept; 0 = for ever.")
    events_timeout_ms: float = Field(
        1000, gt=0, description="Longest wait of events and calls of /users for their turn, and then for a reply of the store."
    )  # fmt: skip
    events_url: str = Field(
        "", repr=False, pattern=r"^$|^(rediss?|unix|kafka)://",
        description="Where the stream is: kafka://host:port, or a Redis by URL; empty = in the store.",
    )  # fmt: skip
    events_stream: str = Field("", max_length=240, description="Stream or topic; empty = <data>:events, on Kafka <data>.events.")
    events_group: str = Field("longtrail", min_length=1, description="Consumer group.")
    events_claim_ms: int = Field(10_000, ge=1, description="An entry not acknowledged for so long goes to another consumer.")
    events_keep_s: int = Field(600, ge=0, description="Entries that every group has acknowledged stay in the stream so long.")
    consumer_port: int = Field(9101, ge=0, le=65535, description="Port of the consumer's metrics; 0 = none.")
    max_body_bytes: int = Field(1_000_000, ge=1, description="Longest request body.")
    request_log: str = Field("", description="Folder for a sample of requests and scores, as Parquet; empty = none.")
    request_log_share: float = Field(0.01, ge=0, le=1, description="Share of the requests that is logged.")
    ui: Literal["on", "off"] = Field("on", description="The page /ui; off = there is none.")
    slow_ms: float = Field(100, ge=0, description="Calls of scoring that take longer are logged, as a JSON line; 0 = none.")
    traces_url: str = Field(
        "", pattern=r"^$|^https?://", description="Where spans go: OTLP over HTTP, http://host:4318/v1/traces; empty = nowhere."
    )  # fmt: skip
    traces_share: float = Field(0.01, ge=0, le=1, description="Share of the calls with spans, where the caller does not say.")
    api_key: SecretStr = Field(SecretStr(""), description="Key of /score; empty = open, on a loopback host only.")
    admin_api_key: SecretStr = Field(SecretStr(""), description="Key of admin paths; empty = there are none.")
    auth: Literal["on", "off"] = Field("on", description="off = open on any host, with an empty key.")

    @field_validator("redis_url", "redis_read_url")
    @classmethod
    def _a_url_of_a_store(cls, url: str) -> str:
        if url:
            check_url(url)
        return url

    @model_validator(mode="after")
    def _not_open_by_accident(self) -> Self:
        if self.host not in LOOPBACK and self.auth == "on" and not self.api_key.get_secret_value():
            raise ValueError(f"CTR_HOST is {self.host}: set CTR_API_KEY, or CTR_AUTH=off to serve without one")
        return self

    @model_validator(mode="after")
    def _two_keys(self) -> Self:
        if self.api_key.get_secret_value() and self.api_key == self.admin_api_key:
            raise ValueError("CTR_ADMIN_API_KEY is CTR_API_KEY: whoever may score could change what is served")
        return self

    @property
    def device(self) -> DeviceOptions:
        """How graphs run on a device."""
        return DeviceOptions(self.search, self.precision, self.cuda_graphs, self.gpu_mem_limit_mb)

    @property
    def caps(self) -> Caps:
        """What is kept of a user."""
        return Caps(self.tree_cap_per_category, self.tree_cap_per_user, self.user_ttl_s)

    @model_validator(mode="after")
    def _caps_that_keep_the_newest(self) -> Self:
        self.caps  # noqa: B018  (checks itself)
        return self


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the environment.

    Raises:
        ValueError: a value out of range, or a CTR_ variable that is no setting.
    """
    known = {f"CTR_{name.upper()}" for name in Settings.model_fields}
    if unknown := sorted(name for name in environment if name.startswith("CTR_") and name not in known):
        raise ValueError(f"unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    given = {name.removeprefix("CTR_").lower(): value for name, value in environment.items() if name in known}
    return Settings.model_validate(given)
