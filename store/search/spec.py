"""What every search has in common: its description in the manifest, and its two methods."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from store.types import Behaviours, Candidates, Mask, Retrieved, Rows

Reads = Literal["newest", "categories", "life"]  # how much of the behaviour tree a search needs


class SearchSpec(BaseModel):
    """The search of a bundle, as its manifest states it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["newest", "sessions", "category", "hamming", "projection", "clusters", "life"]
    k: int = Field(ge=1, le=1024)  # K, behaviours kept for each candidate


class Search(ABC):
    """One search over one version of the item tables."""

    reads: ClassVar[Reads]
    clustered: ClassVar[bool] = False  # searches clusters of older behaviours
    group: ClassVar[int | None] = 1  # S, candidates that share a list; None = all of a request's
    deals: ClassVar[bool] = False  # candidates stand in another order than the caller's, with padding between them
    item_tables: ClassVar[tuple[str, ...]] = ()  # tables it reads by row, [N, ...]
    constants: ClassVar[tuple[str, ...]] = ()  # tables it reads otherwise

    def __init__(self, spec: SearchSpec, tables: Mapping[str, NDArray[Any]]) -> None:
        self.k = spec.k
        for name in (*self.item_tables, *self.constants):
            setattr(self, name, tables[name])

    @property
    def newest(self) -> int:
        """How many of the user's newest behaviours it needs, where it reads the newest list."""
        return 0

    def check(self, buckets: list[int]) -> None:  # noqa: B027  (most searches have nothing to check)
        """Whether the tables fit each other and the buckets of the cross features, the gap's first.

        Raises:
            ValueError: they do not; the kernels would read beyond them.
        """

    @abstractmethod
    def __call__(self, candidates: Candidates, behaviours: Behaviours, cross: Rows) -> Retrieved:
        """Search for all candidates of one request.

        Args:
            candidates: C of them, rows within the tables.
            behaviours: L of them, rows within the tables, oldest first; L may be 0.
            cross: int32 [L, 1 + J], the gap's bucket and the stored ones.

        Returns:
            each candidate at exactly one place; fewer than K real entries where the user has fewer.
            Equal relevance: the newer wins.
        """


def one_by_one(index: Rows, count: int, searched: int) -> Retrieved:
    """A list for every candidate (S = 1): `index` int32 [C, K], all real."""
    return Retrieved(index, np.ones(index.shape, np.bool_), np.arange(count, dtype=np.int32), searched)


def nothing(count: int) -> Retrieved:
    """The empty user: K = 1, masked, for every candidate."""
    index = np.zeros((count, 1), np.int32)
    mask: Mask = np.zeros((count, 1), np.bool_)
    return Retrieved(index, mask, np.arange(count, dtype=np.int32), 0)
