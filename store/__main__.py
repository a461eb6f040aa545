"""python -m store: load a data set, publish item tables, look at what is there, run the embedded store."""

import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from store import keys
from store.append import DEFAULT_CAPS, Caps
from store.behaviour_tree import BehaviourTree
from store.bundle import Bundle
from store.connection import connect, servers, text
from store.embedded import DEFAULT_FOLDER, StoreUnavailable, embedded_store, store_at
from store.ids import canonical_id
from store.keys import check_data_name
from store.load import NotPrepared, Prepared, load
from store.load_snapshots import load_snapshots
from store.publish import publish
from store.registry import StoredRegistry
from store.schema import stored_schema
from store.types import FIRST_KNOWN

app = typer.Typer(no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False, add_completion=False)
console = Console(markup=False, highlight=False)
SETTINGS = (
    "hash-max-listpack-value",
    "hash-max-listpack-entries",
    "appendonly",
    "appendfsync",
    "maxmemory-policy",
)  # of the server

Url = Annotated[
    str, typer.Option(envvar="CTR_REDIS_URL", help="Redis, Valkey or cluster by URL; empty = the embedded store of --folder.")
]
Folder = Annotated[Path, typer.Option(help="Where the embedded store keeps its data.")]
Data = Annotated[str, typer.Option(help="The data set's name.", callback=check_data_name)]
User = Annotated[str, typer.Argument(help="The user's id.", callback=canonical_id)]
Snapshots = Annotated[list[Path] | None, typer.Option(help="Files of snapshots to load as well; may stand more than once.")]
Elsewhere = Annotated[
    str | None,
    typer.Option(
        help="Parquet of behaviours in place of the folder's own: a file, a folder, a glob, or a URL of an object store."
    ),
]
Ray = Annotated[str | None, typer.Option(help="Ray cluster that runs the load: host:port, or auto on one of its nodes.")]
CategoryCap = Annotated[
    int, typer.Option(envvar="CTR_TREE_CAP_PER_CATEGORY", help="Newest behaviours kept of a category; 0 = all.")
]
UserCap = Annotated[int, typer.Option(envvar="CTR_TREE_CAP_PER_USER", help="Newest behaviours kept of a user; 0 = all.")]
Ttl = Annotated[int, typer.Option(envvar="CTR_USER_TTL_S", min=0, help="Seconds a user without events is kept; 0 = for ever.")]
DataFolder = Annotated[Path, typer.Option(help="Where `python -m export` leaves prepared data sets.")]


@app.command("load")
def load_command(
    data: Data = "complete_journey", prepared: DataFolder = Path("runs/data"), url: Url = "", folder: Folder = DEFAULT_FOLDER,
    behaviours: Elsewhere = None, ray: Ray = None, cap_per_category: CategoryCap = 0,
    cap_per_user: UserCap = DEFAULT_CAPS.per_user, ttl_s: Ttl = 0, snapshots: Snapshots = None,
) -> None:  # fmt: skip
    """Load schema, item registry and every user's behaviours. Running it again changes nothing.

    The Parquet files are checked first; nothing is written if a value is wrong. Then they are streamed in batches: memory does
    not grow with the data, and a load that was killed is finished by running it again, which only compares what is there.

    What a tree has beside them, from events say, stays. Snapshots of users (what `python -m export precompute` leaves for
    sdim, mimn and twin_v2) are loaded after the trees; a tree that is changed loses those that were there.

    From many files into a server of your own, on this machine's cores, or on a Ray cluster whose workers have this package:

        python -m store load --data shop --behaviours 's3://shop/behaviours/*.parquet' --url redis://store:6379

        python -m store load --data shop --behaviours /mnt/behaviours --url redis://store:6379 --ray auto
    """
    source = Prepared.open(prepared / data, with_behaviours=behaviours is None)
    total = source.rows if behaviours is None else None
    columns = (TextColumn("load trees"), BarColumn(), MofNCompleteColumn(), TextColumn("behaviours"), TimeElapsedColumn())
    with store_at(url, folder) as store_url, Progress(*columns, console=console) as progress:
        task = progress.add_task("load", total=total)
        caps = Caps(cap_per_category, cap_per_user, ttl_s)
        done = load(source, store_url, lambda one: progress.advance(task, one.behaviours), behaviours, ray, caps)
        for path in snapshots or []:
            task = progress.add_task(str(path), total=None)
            left_out = 0

            def put(users: int, others: int, task: TaskID = task) -> None:
                nonlocal left_out
                left_out += others
                progress.advance(task, users)

            load_snapshots(path, data, connect(store_url), put)
            if left_out:
                console.print(f"{path}: {left_out:,} users' trees are not those that the snapshots were made of: left out")
    console.print(f"{done.behaviours:,} behaviours of {data} are in the store, {done.changed:,} of them in new or changed trees")
    rate = done.behaviours / max(done.seconds, 1e-9)
    console.print(f"{done.seconds:,.1f} s for the trees, {rate:,.0f} behaviours a second")


@app.command("publish")
def publish_command(
    bundles: Annotated[list[Path], typer.Argument(help="Bundle folders, bundles/<model>/<version>.")],
    url: Url = "", folder: Folder = DEFAULT_FOLDER,
    grace_minutes: Annotated[int, typer.Option(min=1, help="How long a replaced version stays, for scorers that read it.")] = 60,
    again: Annotated[bool, typer.Option("--again", help="Send every value, there or not: mends damaged ones.")] = False,
) -> None:  # fmt: skip
    """Publish the item tables of bundles: scorers with CTR_TABLES=store go over to them within seconds.

    All values are sent first, then one pointer is switched: a scorer reads the old version or the new one, never a part.
    Blocks that are in the store are not sent again, so a refresh costs what differs; publishing the same again sends
    nothing and makes the tables young again. It can be stopped and repeated at any time. The scorer takes tables only
    for the graph they were made with: after `train` roll the new bundle out to the scorers as well.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("values"), TimeElapsedColumn())
    with store_at(url, folder) as store_url, Progress(*columns, console=console) as progress:
        for path in bundles:
            bundle = Bundle(path)
            task = progress.add_task(bundle.name, total=None)
            sent = publish(
                bundle, connect(store_url), grace_minutes * 60, again,
                lambda done, of, task=task: progress.update(task, completed=done, total=of),  # type: ignore[misc]
            )  # fmt: skip
            console.print(
                f"{bundle.name}: tables {sent.published.version}, {sent.published.item_rows:,} rows; {sent.values:,} values "
                f"({sent.value_bytes / 2**20:,.1f} MiB) sent, {sent.there:,} were there", soft_wrap=True,
            )  # fmt: skip


@app.command()
def stats(data: Data = "complete_journey", url: Url = "", folder: Folder = DEFAULT_FOLDER) -> None:
    """Count what the store holds of a data set, and which settings of the server matter to it."""
    with store_at(url, folder) as store_url:
        redis = connect(store_url)
        schema = stored_schema(redis, data)
        if schema is None:
            raise NotPrepared(f"the store holds no data set {data}")
        tree = BehaviourTree(redis, data, len(schema.cross_features))
        users = sum(1 for _ in tree.users())
        memory = sum(server.info("memory")["used_memory"] for server in servers(redis))
        settings = [server.config_get(*SETTINGS) for server in servers(redis)]
        table = Table("", data)
        for name, value in {
            "users": f"{users:,}",
            "items": f"{StoredRegistry(redis, data).rows() - FIRST_KNOWN:,}",
            "schema": schema.version,
            "registry": str(StoredRegistry(redis, data).registry_id()),
            "server memory": f"{memory / 2**20:,.1f} MiB",
            **{name: ", ".join(sorted({str(one.get(name, "unknown")) for one in settings})) for name in SETTINGS},
        }.items():
            table.add_row(name, value)
        console.print(table)


@app.command()
def show(
    user: User,
    data: Data = "complete_journey", url: Url = "", folder: Folder = DEFAULT_FOLDER, newest: int = 20,
) -> None:  # fmt: skip
    """Print a user's tree: categories by size, then the newest behaviours."""
    with store_at(url, folder) as store_url:
        redis = connect(store_url)
        schema = stored_schema(redis, data)
        if schema is None:
            raise NotPrepared(f"the store holds no data set {data}")
        names = {int(row): text(name) for name, row in redis.hgetall(keys.categories(data)).items()}
        tree = BehaviourTree(redis, data, len(schema.cross_features))
        life = tree.read_life(user)
        if not len(life.behaviours):
            console.print(f"user {user}: no behaviours ({life.bad_records} unreadable values)")
            return
        by_category = Table("category", "behaviours", "oldest", "newest")
        rows = life.behaviours
        sizes = {category: (rows.category == category).sum() for category in set(rows.category.tolist())}
        for category, size in sorted(sizes.items(), key=lambda entry: -entry[1]):
            ts = rows.ts[rows.category == category]
            by_category.add_row(names.get(category, str(category)), str(size), _date(ts[0]), _date(ts[-1]))
        console.print(by_category)
        last = rows.select(slice(-newest, None))
        ids = StoredRegistry(redis, data).ids_of(sorted(set(last.row.tolist())))
        table = Table("when (UTC)", "item", "category", *(feature.name for feature in schema.cross_features))
        for i in range(len(last) - 1, -1, -1):
            item, category = ids.get(int(last.row[i]), f"row {last.row[i]}"), names.get(int(last.category[i]), "?")
            table.add_row(_date(last.ts[i]), item, category, *map(str, last.cross[i]))
        console.print(table)
        console.print(f"user {user}: {len(rows):,} behaviours, {len(sizes)} categories, {life.bad_records} unreadable values")


@app.command()
def delete(
    user: User,
    data: Data = "complete_journey", url: Url = "", folder: Folder = DEFAULT_FOLDER,
) -> None:  # fmt: skip
    """Remove a user's tree and snapshots."""
    with store_at(url, folder) as store_url:
        found = BehaviourTree(connect(store_url), data, 0).delete(user)
        console.print(f"user {user}: {'removed' if found else 'had no tree'}")


@app.command()
def embedded(folder: Folder = DEFAULT_FOLDER) -> None:
    """Run the embedded store until interrupted, and print its URL."""
    for number in (signal.SIGINT, signal.SIGTERM):  # before the start: whoever reads the URL may end it at once
        signal.signal(number, lambda *_: sys.exit(0))
    with embedded_store(folder) as url:
        console.print(f"store: {url}")
        threading.Event().wait()


def _date(ts: float) -> str:
    return datetime.fromtimestamp(int(ts), UTC).strftime("%Y-%m-%d %H:%M")


def main() -> None:
    """Run the command; errors of ours and of the store are one line, not a traceback."""
    try:
        app()
    except (ValueError, StoreUnavailable, RedisError) as error:
        console.print(f"error {error}", style="red", soft_wrap=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
