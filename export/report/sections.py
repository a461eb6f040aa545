"""The report's sections: what the content says, as headed tables and plots that every format of the page shows."""

from dataclasses import dataclass, field

from export.consistency import OF, RANKS
from export.evaluate import HEAVY, LENGTHS
from export.report.content import Content
from export.report.plots import Series, dots, lines, reliability

NONE = "-"  # shown for a figure that there is not
CUTS = [*map(str, LENGTHS), "all"]
SEARCHES = {"search": "search", "merged": "merged", "search_old": "search, old", "merged_old": "merged, old"}


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row."""

    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """A heading, what it means, the figures."""

    title: str
    text: str
    tables: list[Table]
    plots: dict[str, str] = field(default_factory=dict)  # caption -> <svg>


def sections(content: Content) -> list[Section]:
    """All sections that the content has figures for, in the order of the page."""
    makers = (_quality, _lengths, _consistency, _calibration, _training, _public)
    return [section for section in (make(content) for make in makers) if section.tables]


def _quality(content: Content) -> Section:
    models, baselines = content["models"], content["baselines"]
    head = ["model", "reads", "AUC", "GAUC", "log loss", "AUC, heavy users", "AUC, first-time items"]

    def row(name: str, reads: str, own: Content) -> list[str]:
        return [name, reads, *(_figure(own[figure]) for figure in ("auc", "gauc", "log_loss")), *_subsets(own)]

    rows = [row(name, own["training"]["reads"], own) for name, own in models.items()]
    rows += [row(name, "baseline", own) for name, own in baselines.items()]
    counts = max(models.values(), key=lambda own: own["impressions"])
    plot = dots(
        list(models),
        {
            "all": [own["auc"] for own in models.values()],
            "heavy users": [own["heavy"]["auc"] for own in models.values()],
            "first-time items": [own["first_time"]["auc"] for own in models.values()],
        },
        {name: own["auc"] for name, own in baselines.items() if name in ("item_difficulty", "counting_1000") and own["auc"]},
        "AUC",
    )
    text = (
        f"Evaluated on {content['sample']}: {counts['impressions']:,} impressions, {counts['users']:,} users. GAUC: AUC of each "
        "user, weighted by impressions, users with one label left out. Heavy users have at least "
        f"{HEAVY} behaviours before the impression ({counts['heavy']['impressions']:,} impressions); a first-time item has none "
        f"of them ({counts['first_time']['impressions']:,})."
    )
    for name, own in models.items():
        if own["sample"] != content["sample"]:
            text += f" {name}: on {own['sample']}."
    if not content["calibrated"]:
        text += " The data has no impressions: every row is a positive and the negatives are drawn by popularity."
    return Section("Models", text, [Table(head, rows)], {"AUC of each model, and of the baselines": plot})


def _lengths(content: Content) -> Section:
    models = {name: own for name, own in content["models"].items() if "newest" in own}
    text = (
        "The same weights, each history cut to its newest 50, 200 and 1000 behaviours: what the long past is worth. Only for "
        "models that read more than the newest list. Counting: a logistic regression on counts in the last so many behaviours. "
        "Whole life: the same weights, every candidate attending to all behaviours instead of what its search returned. Such "
        "attention would be the upper bound of a search if it were trained so; these weights were trained on the K behaviours "
        "that the search returned, so where it is below the search, it shows what they were never taught to ignore."
    )
    if not models:
        return Section("AUC against the length of the history", text, [])
    counting = {cut: content["baselines"].get(f"counting_{cut}", {}).get("auc") for cut in CUTS}
    rows = [
        [name, *(_figure(own["newest"][cut]["auc"]) for cut in CUTS), _figure(own.get("whole_life", {}).get("auc"))]
        for name, own in models.items()
    ]
    rows.append(["counting", *(_figure(counting[cut]) for cut in CUTS), NONE])
    series = [Series(name, range(len(CUTS)), [own["newest"][cut]["auc"] for cut in CUTS]) for name, own in models.items()]
    series.append(Series("counting", range(len(CUTS)), list(counting.values())))
    plot = lines(series, "newest behaviours kept", "AUC", ticks=CUTS)
    table = Table(["model", *(f"newest {cut}" if cut != "all" else "all" for cut in CUTS), "whole life"], rows)
    return Section("AUC against the length of the history", text, [table], {"AUC against the length of the history": plot})


def _consistency(content: Content) -> Section:
    models = {name: own for name, own in content["models"].items() if own.get("consistency")}
    text = (
        f"Of the {OF} behaviours with the largest attention weight (mean over heads) when the ESU attends to the whole life, so "
        "many did the search return, mean over candidates. Merged: where several heads search, one list by the mean over heads "
        "of the softmax of their relevance in place of a round robin over the heads. Old: the search's tables are from weights "
        "one training week older than the ESU's."
    )
    if not models:
        return Section("Search consistency", text, [])
    rows = []
    shares: dict[str, list[Series]] = {search: [] for search in SEARCHES}
    for name, own in models.items():
        consistency = own["consistency"]
        found = consistency["found"]
        figures = [_figure(found[search]["of_100"], 1) if search in found else NONE for search in SEARCHES]
        bound = [_figure(own["auc"]), _figure(own["whole_life"]["auc"])]
        rows.append([name, own["training"]["search"], str(consistency["kept"]), *figures, *bound, consistency["sample"]])
        for search in found:
            label = name if not search.startswith("merged") else f"{name}, merged"
            shares[search].append(Series(label, RANKS, found[search]["share"]))
    head = ["model", "search", "K", *(f"of {OF}: {label}" for label in SEARCHES.values()), "AUC", "AUC, whole life", "sample"]
    axes = ("n heaviest behaviours", "share that the search returned")
    plots = {"Share of the n heaviest behaviours that the search returned": lines(shares["search"], *axes, percent=True)}
    if old := shares["search_old"] + shares["merged_old"]:
        plots["The same from tables one training week old"] = lines(old, *axes, percent=True)
    return Section("Search consistency", text, [Table(head, rows)], plots)


def _calibration(content: Content) -> Section:
    models = {name: own["calibration"] for name, own in content["models"].items()}
    text = (
        "Ratio: the sum of the predicted probabilities to the number of positives, 1 is right on average. Expected calibration "
        "error: the mean distance of prediction and outcome over bins of equal mass, as in the curves."
    )
    if not content["calibrated"]:
        text += " The negatives are drawn, so this says how well the recipe's rate is met, not a rate of clicks."
    rows = [[name, _figure(own["ratio"], 3), _figure(own["error"])] for name, own in models.items()]
    plot = reliability({name: (own["predicted"], own["observed"]) for name, own in models.items()})
    head = ["model", "predicted / observed", "expected calibration error"]
    return Section("Calibration", text, [Table(head, rows)], {"Observed rate over predicted, by bins of equal mass": plot})


def _training(content: Content) -> Section:
    models = {name: own["training"] for name, own in content["models"].items()}
    minutes = sum(own["seconds"] for own in models.values()) / 60
    text = (
        f"{minutes:.0f} minutes of one thread in all, {minutes / 2:.0f} on two cores with a model on each. Days: the last "
        "ones before the end of the training split. K: behaviours retrieved for a candidate; R: newest behaviours of the short "
        "branch; L: newest behaviours that a training request reads."
    )
    head = ["model", "days", "epochs", "requests a batch", "K", "R", "L", "seed", "impressions", "seconds"]
    rows = [
        [
            name, str(own["days"] or "all"), str(own["epochs"]), str(own["requests_a_batch"]), str(own["k"]), str(own["recent"]),
            str(own["trained_length"] or "all"), str(own["seed"]), f"{own['impressions']:,}", f"{own['seconds']:,.0f}",
        ]
        for name, own in models.items()
    ]  # fmt: skip
    return Section("Training budget", text, [Table(head, rows)])


def _public(content: Content) -> Section:
    public, models = content["public"], content["models"]
    differences = list(dict.fromkeys(difference for own in public.values() for difference in own["differences"]))
    text = (
        "The same training impressions, features and test requests, by a public implementation with the sizes of ours wherever "
        f"it has an option for them. What is not equal: {'; '.join(differences)}. Beside each: ours of the same training days, "
        "passes and L, and ours as in the first table."
    )
    if not public:
        return Section("Beside a public implementation", text, [])
    head = ["model", "package", "L", "AUC", "GAUC", "ours, L: AUC", "GAUC", "ours: AUC", "GAUC", "impressions", "s", "sample"]
    rows, defects = [], []
    for name, own in public.items():
        figures = [_figure(who.get(key)) for who in (own, own["ours"] or {}, models.get(name, {})) for key in ("auc", "gauc")]
        rows.append(
            [
                name, f"{own['package']} {own['version']}", str(own["settings"]["length"]), *figures,
                f"{own['impressions']:,} of {own['planned']:,}", f"{own['seconds']:,.0f}", own["sample"],
            ]
        )  # fmt: skip
        defects.append([name, "; ".join(own["defects"])])
    tables = [Table(head, rows), Table(["model", "known defects of the public one"], defects)]
    return Section("Beside a public implementation", text, tables)


def _subsets(own: Content) -> list[str]:
    return [_figure(own[subset]["auc"]) for subset in ("heavy", "first_time")]


def _figure(value: float | None, digits: int = 4) -> str:
    return NONE if value is None else f"{value:.{digits}f}"
