"""Who sent a request: there, or gone. The connection knows, and a request asks before each of its stages."""

IN_SCOPE = "longtrail.caller"  # where the connection puts it, of an ASGI scope


class Caller:
    """One connection's; read by the thread that works for it."""

    __slots__ = ("gone",)

    def __init__(self) -> None:
        self.gone = False
