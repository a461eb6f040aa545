"""What can go wrong with a call, and the one place where each kind gets its status.

    ScorerError
    ├── InvalidJson          400  the body is no JSON
    ├── Unauthorised         401  no key, or a wrong one
    ├── Forbidden            403  the scoring key on an admin path
    ├── NotOffered           404  an admin path, and no admin key is set
    ├── UnknownModel         404  the text lists the known ones
    ├── LabelsNotKept        409  admin paths only: the folder of the bundles cannot be written to; nothing has changed
    ├── BodyTooLarge         413
    ├── UnsupportedMedia     415
    ├── InvalidRequest       422  names the field, and both numbers where there are two
    ├── BundleRefused        422  admin paths only: the version cannot be served; nothing has changed
    ├── Overloaded           429  no free slot; Retry-After
    ├── NoModel              503  no bundle is loaded; Retry-After
    ├── NoMemory             503  memory does not suffice for this request, here or on the device; Retry-After, names the stage
    ├── EventsNotStored      503  /events only: the store did not acknowledge; Retry-After
    ├── StoreFailed          503  /users only: the store did not answer; Retry-After
    ├── DeadlineExceeded     504  names the stage
    └── CallerGone           499  nobody reads it: the caller hung up, and what was left to do was not done

A fault of the store is no error of /score: the answer is 200 with a reason in `degraded`.
"""

from typing import ClassVar

REJECTED = (429, 503, 504)  # statuses of calls that are counted as refused: a later one may be answered


class ScorerError(Exception):
    """Base; `status` and `title` belong to the kind, the text to the call."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "internal error"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail, self.field = detail, field

    @classmethod
    def word(cls) -> str:
        """The title as a metric's label has it."""
        return cls.title.replace(" ", "_")


class InvalidJson(ScorerError):
    """The body is no JSON document."""

    status, title = 400, "malformed JSON"


class Unauthorised(ScorerError):
    """The call carries no key, or a wrong one."""

    status, title = 401, "no or wrong key"
    headers: ClassVar[dict[str, str]] = {"www-authenticate": "Bearer"}


class Forbidden(ScorerError):
    """The key is known, and is not the admin's."""

    status, title = 403, "not the admin key"


class NotOffered(ScorerError):
    """An admin path of a scorer without an admin key."""

    status, title = 404, "not offered"


class UnknownModel(ScorerError):
    """No such model, version or label."""

    status, title = 404, "unknown model"


class LabelsNotKept(ScorerError):
    """The labels of a model cannot be written to its folder."""

    status, title = 409, "labels not kept"


class BodyTooLarge(ScorerError):
    """More bytes than a request may have."""

    status, title = 413, "body too large"


class UnsupportedMedia(ScorerError):
    """A content type or encoding other than plain JSON."""

    status, title = 415, "unsupported media type"


class InvalidRequest(ScorerError):
    """JSON that is no valid request."""

    status, title = 422, "invalid request"


class BundleRefused(ScorerError):
    """A version that is there, and cannot be served."""

    status, title = 422, "bundle refused"


class Overloaded(ScorerError):
    """All slots are taken."""

    status, title = 429, "no free slot"
    headers: ClassVar[dict[str, str]] = {"retry-after": "1"}


class NoModel(ScorerError):
    """No bundle is loaded."""

    status, title = 503, "no model is loaded"
    headers: ClassVar[dict[str, str]] = {"retry-after": "5"}


class NoMemory(ScorerError):
    """Memory does not suffice for the request, here or on the device: another scorer may have it."""

    status, title = 503, "not enough memory"
    headers: ClassVar[dict[str, str]] = {"retry-after": "1"}


class EventsNotStored(ScorerError):
    """The store did not acknowledge what it was given."""

    status, title = 503, "events not stored"
    headers: ClassVar[dict[str, str]] = {"retry-after": "1"}


class StoreFailed(ScorerError):
    """The store did not answer a call that is about the store."""

    status, title = 503, "the store failed"
    headers: ClassVar[dict[str, str]] = {"retry-after": "1"}


class DeadlineExceeded(ScorerError):
    """The request's time is up."""

    status, title = 504, "deadline exceeded"


class CallerGone(ScorerError):
    """The caller hung up before its answer was made."""

    status, title = 499, "the caller is gone"
