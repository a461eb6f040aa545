"""A small own-data folder in the contracted form."""

from pathlib import Path

import numpy as np
import pandas as pd

USERS, ITEMS, ROWS = 30, 60, 3000


def interactions(seed: int = 0) -> pd.DataFrame:
    """Users who mostly return to items of their own."""
    random = np.random.default_rng(seed)
    user = random.integers(0, USERS, ROWS)
    item = (user * 2 + random.integers(0, 12, ROWS)) % ITEMS
    return pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in user],
            "item_id": item.astype("int64"),
            "category": [f"c{i % 7}" for i in item],
            "ts": np.sort(random.integers(1_600_000_000, 1_610_000_000, ROWS)),
            "price": np.where(random.random(ROWS) < 0.1, np.nan, item * 1.5),
        }
    )


def items() -> pd.DataFrame:
    """Item features, one of them missing for some."""
    numbers = np.arange(ITEMS)
    brand = [None if i % 5 == 0 else f"b{i % 3}" for i in numbers]
    return pd.DataFrame({"item_id": numbers.astype("int64"), "category": [f"c{i % 7}" for i in numbers], "brand": brand})


def write(folder: Path, table: pd.DataFrame | None = None, with_items: bool = True) -> Path:
    """Write the folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (interactions() if table is None else table).to_parquet(folder / "interactions.parquet")
    if with_items:
        items().to_parquet(folder / "items.parquet")
    return folder
