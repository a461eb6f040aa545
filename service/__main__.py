"""python -m service: serve the bundles until stopped.
python -m service consume: put events of a stream into the store until stopped.

Settings of both are environment variables, see README.md here.
"""

import logging
import signal
import sys
from contextlib import nullcontext

import uvicorn
from pydantic import ValidationError
from redis.exceptions import RedisError

from service.app import create_app
from service.settings import Settings, read_settings
from store.embedded import StoreUnavailable, embedded_store

log = logging.getLogger("longtrail")

KEEP_ALIVE_S = 65  # longer than the idle time of usual proxies


def main() -> None:
    """Start the embedded store if none is named, then the scorer or the consumer."""
    if set(sys.argv[1:]) & {"-h", "--help"}:
        print(__doc__)
        for name, field in Settings.model_fields.items():
            print(f"  CTR_{name.upper():28} {field.description} [{field.get_default()}]")
        return
    if sys.argv[1:] not in ([], ["consume"]):
        sys.exit(f"error: {' '.join(sys.argv[1:])}: there is `consume`, or nothing to serve; --help lists the settings")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn hands the signal on: the store must end too
    try:
        settings = read_settings()
        if sys.argv[1:]:
            _consume(settings)
        else:
            _serve(settings)
    except ValidationError as error:
        sys.exit("\n".join(f"error: {_setting(fault['loc'])}{fault['msg']}" for fault in error.errors()))
    except (ValueError, StoreUnavailable) as error:
        sys.exit(f"error: {error}")


def _serve(settings: Settings) -> None:
    given = settings.redis_url
    with nullcontext(given) if given else embedded_store(settings.store_folder, borrow=False) as redis_url:
        log.info("store: %s", "CTR_REDIS_URL" if given else redis_url)
        uvicorn.run(
            create_app(settings, redis_url), host=settings.host, port=settings.port, loop="uvloop", http="httptools",
            access_log=False, timeout_keep_alive=KEEP_ALIVE_S, log_level="warning", server_header=False,
        )  # fmt: skip


def _consume(settings: Settings) -> None:
    from service.consumer import ConsumerStopped, consume  # the scorer does without its libraries

    given = settings.redis_url
    with nullcontext(given) if given else embedded_store(settings.store_folder) as redis_url:
        try:
            consume(settings, redis_url)
        except (ConsumerStopped, RedisError) as error:
            sys.exit(f"error: {error}")


def _setting(loc: tuple[int | str, ...]) -> str:
    """The setting a fault belongs to, if it is one's."""
    return f"CTR_{'_'.join(map(str, loc)).upper()}: " if loc else ""


if __name__ == "__main__":
    main()
