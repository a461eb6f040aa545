import pytest

from service import errors
from service.errors import ScorerError
from tests.service.readme import table

KINDS = ScorerError.__subclasses__()


def test_every_kind_has_a_title_of_its_own():
    assert len({kind.title for kind in KINDS}) == len(KINDS)


def test_no_kind_is_an_internal_error():
    assert {kind.status for kind in KINDS} == {400, 401, 403, 404, 409, 413, 415, 422, 429, 499, 503, 504}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_tree_at_the_head_of_the_file_has_the_kind_and_its_status(kind):
    (line,) = [line for line in errors.__doc__.splitlines() if f"── {kind.__name__} " in line]
    assert str(kind.status) in line


@pytest.mark.parametrize("status", [429, 503])
def test_who_may_try_again_is_told_when(status):
    kinds = [kind for kind in KINDS if kind.status == status]
    assert kinds
    assert all(int(kind.headers["retry-after"]) > 0 for kind in kinds)


def test_a_401_names_the_scheme():
    assert errors.Unauthorised.headers["www-authenticate"] == "Bearer"


def test_the_readme_lists_every_kind():
    assert {(status, title) for status, title, _ in table("status", "title", "when")} == {
        (str(kind.status), kind.title) for kind in KINDS
    }
