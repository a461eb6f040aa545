"""General search (GSU): which behaviours of the user each candidate will attend to.

    name         keeps                                      of                        models
    newest       the newest K                               the newest list           din
    category     the newest K of the candidate's category   the request's categories  sim_hard
    hamming      the K nearest signatures                   the whole life            eta
    projection   a union of the heads' best K               the whole life            twin

Training, evaluation and service call the same functions on the same arrays: what a model was
trained to attend to is what it is given when it is served.
"""

from store.search.category import CategorySearch
from store.search.hamming import HammingSearch
from store.search.newest import NewestSearch
from store.search.projection import ProjectionSearch
from store.search.spec import Search, SearchSpec

SEARCHES: dict[str, type[Search]] = {
    "newest": NewestSearch,
    "category": CategorySearch,
    "hamming": HammingSearch,
    "projection": ProjectionSearch,
}

__all__ = ["SEARCHES", "Search", "SearchSpec"]
