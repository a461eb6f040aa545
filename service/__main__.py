"""The scorer, and what runs beside it. Without a command: serve.

Settings of all of them are environment variables: python -m service settings
"""

import logging
import signal
import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import track

from service.server import run
from service.settings import Settings, read_settings
from store.embedded import StoreUnavailable, store_at

log = logging.getLogger("longtrail")
app = typer.Typer(help=__doc__, pretty_exceptions_enable=False, add_completion=False)

All = Annotated[bool, typer.Option("--all", help="Do every user once, and end.")]
Drop = Annotated[bool, typer.Option("--drop", help="Remove states of parameters that no bundle here has, and end.")]


@app.callback(invoke_without_command=True)
def serve(context: typer.Context) -> None:
    """Serve the bundles until stopped."""
    if context.invoked_subcommand is not None:
        return
    settings = read_settings()
    with store_at(settings.redis_url, settings.store_folder, borrow=False) as redis_url:
        log.info("store: %s", "CTR_REDIS_URL" if settings.redis_url else redis_url)
        run(settings, redis_url)


@app.command("settings")
def settings_command() -> None:
    """List the settings, environment variables all, with their defaults."""
    for name, field in Settings.model_fields.items():
        print(f"CTR_{name.upper():28} {field.description} [{field.get_default()}]")


@app.command()
def consume() -> None:
    """Put the events of a stream into the store until stopped."""
    from service.consumer import ConsumerStopped, consume  # the scorer does without its libraries

    settings = read_settings()
    with store_at(settings.redis_url, settings.store_folder) as redis_url:
        try:
            consume(settings, redis_url)
        except ConsumerStopped as error:
            sys.exit(f"error: {error}")


@app.command()
def keep(everyone: All = False, drop: Drop = False) -> None:
    """Keep users' states (sdim, mimn, twin_v2) close behind their trees until stopped; any number may run.

    Before scorers switch to a new version of such a model: --all, with its bundle in CTR_BUNDLES. After it: --drop.
    """
    from service.keeper import open_keeper

    settings = read_settings()
    with store_at(settings.redis_url, settings.store_folder) as redis_url:
        keeper = open_keeper(settings, redis_url)
        if not (everyone or drop):
            keeper.run()
            return
        for asked, what, do in ((everyone, "states", keeper.keep), (drop, "others", keeper.drop_others)):
            if asked:
                for user_id in track(keeper.users(), what, console=Console(stderr=True), total=None):
                    do(user_id)
        print(keeper.summary)


def _setting(loc: tuple[int | str, ...]) -> str:
    """The setting a fault belongs to, if it is one's."""
    return f"CTR_{'_'.join(map(str, loc)).upper()}: " if loc else ""


def main() -> None:
    """Run the command; errors of ours and of the store are lines, not a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn hands the signal on: the store must end too
    try:
        app()
    except ValidationError as error:
        sys.exit("\n".join(f"error: {_setting(fault['loc'])}{fault['msg']}" for fault in error.errors()))
    except (ValueError, StoreUnavailable, RedisError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
