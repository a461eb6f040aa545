"""FuxiCTR's LongCTR models: their names there, options equal to ours, and what is known of them.

The defects were read in the package's source, at the version of the extra. They are stated beside every
figure; none is repaired here, and where the form of the input decides, it is the one that works.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from export.data.dataset import Dataset
from export.fuxictr_batches import LABEL, context_columns, item_columns
from export.layers.embedding import feature_widths
from export.layers.head import HIDDEN
from export.models.contract import ModelConfig
from export.models.din import DINConfig
from export.run import TrainingFailed
from store.types import PADDING

OURS = ModelConfig()
GRADIENT_NORM = 10.0  # what the package's own loop clips to
RECENT_MASK = (
    "the mask of the short branch is one place off (behaviours carry the target at their end, the mask does not): "
    "the oldest behaviour is lost, and the only one of a user who has one"
)
NO_STATED_TIES = "equal distances are decided by torch.topk, in no stated order"


@dataclass(frozen=True)
class Twin:
    """A model of the zoo: its class there, options beside the common ones, and what is known to be wrong with it."""

    kind: str
    options: dict[str, Any]
    defects: tuple[str, ...]
    padding_first: bool = True


_ATTENTION = {"attention_dim": OURS.heads * OURS.head_dim, "num_heads": OURS.heads}

# quick ones first: what they leave of the time goes to the slow ones
TWINS = {
    "twin": Twin(
        "TWIN", {**_ATTENTION, "topk": OURS.k, "Kc_cross_features": 0},
        (
            "each head attends to a top-k of its own, not to the union of the heads' lists: another model than the paper's",
            "no cross features: with Kc_cross_features > 0 the shapes cannot match, and the bias would be one number for all "
            "behaviours, which the softmax takes away",
            RECENT_MASK,
        ),
    ),
    "sim_soft": Twin(
        "SIM", {**_ATTENTION, "topk": OURS.k},
        (
            "padding scores 0 in the search and outranks real behaviours that score below 0, so fewer than k are attended to",
            "no embedding of the time gap, and one table of embeddings for search and attention",
            RECENT_MASK,
        ),
    ),
    "sdim": Twin(
        "SDIM", {**_ATTENTION, "num_hashes": 16, "hash_bits": 3, "reuse_hash": True, "l2_norm": True},
        ("bucket numbers are float32: with more than 24 hash_bits buckets merge (3 here)", RECENT_MASK),
    ),
    "eta": Twin("ETA", {**_ATTENTION, "topk": OURS.k, "hash_bits": 64, "reuse_hash": True}, (NO_STATED_TIES, RECENT_MASK)),
    "din": Twin(
        "DIN", {"attention_hidden_units": list(DINConfig().hidden)},
        (
            "padding takes part in the statistics of Dice",
            "the sum of weights is not normalised and grows with the history, as in the paper: L is part of the model",
        ),
    ),
    "dien": Twin(
        "DIEN", {"gru_type": "AUGRU", "attention_type": "bilinear_attention", "enable_sum_pooling": True, "batch_norm": True},
        (
            "no auxiliary loss, to which the paper owes most of its gain on public data",
            "the package's loader pads at the front and this model reads as many places from there as the user has behaviours, "
            "that is padding; here histories begin at place 0",
            "a batch in which fewer than two impressions have a history fails",
            "the backward pass copies the hidden states of all steps at each step: the cost grows faster than L",
        ),
        padding_first=False,
    ),
}  # fmt: skip
DIFFERENCES = (
    "reads the newest L behaviours, where our searched models read the whole life",
    "reads no time gaps and no cross features of behaviours: its form has no place for them",
    "embeddings start at a standard deviation of 0.0001, fixed by the package (ours: DECISIONS.md, 7)",
    "its head gets target and interest side by side, ours their product too (DECISIONS.md, 15)",
    "one Adam at a constant rate for all parameters, as the package trains within an epoch",
)


def options_of(name: str, length: int, learning_rate: float) -> dict[str, Any]:
    """Options of the package's class for a model that reads `length` behaviours, equal to ours where it has them."""
    options = {
        "embedding_dim": OURS.dim, "dnn_hidden_units": list(HIDDEN), "dnn_activations": "PReLU",
        "optimizer": "adam", "loss": "binary_crossentropy", "learning_rate": learning_rate, **TWINS[name].options,
    }  # fmt: skip
    if "num_heads" in options:  # its slices end before the target: n + 1 means n; and they differ when longer than L
        options["short_seq_len"] = min(OURS.recent + 1, length)
    return options


def build_twin(dataset: Dataset, name: str, options: dict[str, Any], seed: int) -> Any:
    """A fresh model of the zoo for this data set; `options` as from `options_of`.

    Raises:
        TrainingFailed: the package is not installed.
    """
    try:
        from fuxictr.features import FeatureMap
        from fuxictr.pytorch.torch_utils import seed_everything
        from model_zoo import LongCTR
    except ImportError as error:
        raise TrainingFailed(f"{error}: `compare` needs FuxiCTR, in the extra compare: pip install '.[compare]'") from None
    seed_everything(seed)
    feature_map = FeatureMap(dataset.schema.data, str(dataset.folder))
    feature_map.labels, feature_map.default_emb_dim = [LABEL], OURS.dim
    feature_map.features = features_of(dataset)
    feature_map.num_fields = len(feature_map.features)
    unused = {"verbose": 0, "gpu": -1, "metrics": ["AUC"], "model_root": str(dataset.folder)}  # required, for its own loop
    model = getattr(LongCTR, TWINS[name].kind)(feature_map, model_id=name, **options, **unused)
    model._max_gradient_norm, model._batch_index = GRADIENT_NORM, 0  # set by its own loop, read by train_step
    return model


def features_of(dataset: Dataset) -> OrderedDict[str, dict[str, Any]]:
    """Columns as the package describes them, with the widths of our embeddings."""
    widths = feature_widths(len(dataset.items.sizes), OURS.dim)
    columns = [("item", *column) for column in zip(item_columns(dataset), dataset.items.sizes, widths, strict=True)]
    for name, feature in zip(context_columns(dataset), dataset.schema.context, strict=True):
        columns.append(("context", name, feature.size, OURS.context_dim))
    return OrderedDict(
        (name, {"type": "categorical", "source": source, "vocab_size": size, "embedding_dim": width, "padding_idx": PADDING})
        for source, name, size, width in columns
    )
