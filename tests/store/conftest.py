"""Fixtures of the store's own tests: a prepared data set on disk."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.load import BEHAVIOURS_FILE, REGISTRY_FILE, SCHEMA_FILE, Prepared
from store.registry import Registry
from store.schema import ContextFeature, CrossFeature, Schema

ITEMS = [("i2", "tea"), ("i3", "milk"), ("i4", "tea"), ("i5", "bread")]  # rows 2..5, categories 2 3 2 4


@pytest.fixture
def prepare(tmp_path, data_name):
    """Make a prepared folder: `prepare(events, row_group)`; an event is (user, row, ts, price bucket)."""

    def make(events, row_group=3, price_edges=(1.0, 2.0), items=ITEMS, name=data_name):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        schema = Schema(
            data=name,
            cross_features=[CrossFeature(name="price", edges=list(price_edges))],
            context=[ContextFeature(name="hour", values=[str(hour) for hour in range(24)])],
        )
        (folder / SCHEMA_FILE).write_text(schema.model_dump_json())
        Registry.build(name, [item for item, _ in items], [category for _, category in items]).save(folder / REGISTRY_FILE)
        columns = {
            "user_id": pa.array([event[0] for event in events], pa.string()),
            "row": pa.array([event[1] for event in events], pa.int32()),
            "ts": pa.array([event[2] for event in events], pa.int64()),
            "price": pa.array(np.array([event[3] for event in events], np.uint8)),
        }
        pq.write_table(pa.table(columns), folder / BEHAVIOURS_FILE, row_group_size=row_group)
        return Prepared.open(folder)

    return make
