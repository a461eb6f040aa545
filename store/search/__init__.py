"""General search (GSU): which behaviours of the user each candidate will attend to.

    name         keeps                                      of                        models
    newest       the newest K                               the newest list           mean_pool, din, dien, bst, dmin, mind
    sessions     the newest 5 sessions                      the newest list           dsin
    category     the newest K of the candidate's category   the request's categories  sim_hard
    hamming      the K nearest signatures                   the whole life            eta
    projection   a union of the heads' best K               the whole life            sim_soft (one head), twin
    clusters     the same, of clusters and what is newer    the whole life            twin_v2
    life         everything, to be folded into a state      the whole life            sdim, mimn

Training, evaluation and service call the same functions on the same arrays: what a model was
trained to attend to is what it is given when it is served.
"""

from store.search.category import CategorySearch
from store.search.clusters import ClusterSearch
from store.search.hamming import HammingSearch
from store.search.life import LifeSearch
from store.search.newest import NewestSearch
from store.search.projection import ProjectionSearch
from store.search.sessions import SessionSearch
from store.search.spec import Search, SearchSpec

SEARCHES: dict[str, type[Search]] = {
    "newest": NewestSearch,
    "sessions": SessionSearch,
    "category": CategorySearch,
    "hamming": HammingSearch,
    "projection": ProjectionSearch,
    "clusters": ClusterSearch,
    "life": LifeSearch,
}

__all__ = ["SEARCHES", "Search", "SearchSpec"]
