"""A bundle's scoring graphs on a device: the plain one, and by setting the one that searches as well."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from service.buckets import Buckets
from service.device import Device, DeviceTables
from service.device_options import DeviceOptions, Providers
from service.device_session import DeviceSession
from service.tables import Tables
from store.bundle import Bundle, BundleInvalid, Precision, graph_file
from store.graph_inputs import Form, GraphInputs
from store.life_inputs import GRAPH_SEARCHES, inputs_when_searching

SEARCHED = "life_row"  # an input that the graph has which searches


class DeviceGraph:
    """Runs whichever of the graphs a request's inputs are for."""

    def __init__(self, bundle: Bundle, providers: Providers, options: DeviceOptions) -> None:
        """Load.

        Raises:
            BundleInvalid: as `DeviceSession`, or the bundle has no such graph as the options ask for.
        """
        manifest, buckets, tables = bundle.manifest, Buckets.of(bundle), DeviceTables(bundle.tables)
        # a state is sums over a life, which float16 does not hold
        self.precision: Precision = "float32" if manifest.state else options.precision
        stated = {spec.name for spec in manifest.inputs}
        searches = options.search == "device" and manifest.search.name in GRAPH_SEARCHES
        self.takes: Form = "life" if searches else "groups"
        plain, searching = (_file(bundle, self.precision, itself) for itself in (False, True))
        if plain.name not in manifest.files:
            raise _lacks(plain, f"CTR_PRECISION={self.precision}")
        if searches and searching.name not in manifest.files:
            raise _lacks(searching, "CTR_SEARCH=device")
        self._plain = DeviceSession(plain, stated, tables, buckets, providers, options)
        self.device: Device = self._plain.device
        if searches:
            stated = inputs_when_searching(manifest.search.name, stated)
            self._searching = DeviceSession(searching, stated, tables, buckets, providers, options)

    def explaining(self, inputs: GraphInputs) -> list[str]:
        """Outputs that explain the logits: the weights, and what they are of where the graph itself found it."""
        if not self._plain.weighs:
            return []
        return ["weight", "index"] if SEARCHED in inputs else ["weight"]

    def run(self, inputs: GraphInputs, outputs: Sequence[str], tables: Tables | None) -> list[NDArray[Any]]:
        """The outputs asked for; `tables` in place of the bundle's, by name."""
        session = self._searching if SEARCHED in inputs else self._plain
        return session.run(inputs, outputs, tables)


def _file(bundle: Bundle, precision: Precision, searches: bool) -> Path:
    return bundle.folder / graph_file(precision, searches)


def _lacks(path: Path, setting: str) -> BundleInvalid:
    return BundleInvalid(f"{path}: not in the bundle, {setting} needs it; `python -m export bundle` makes it")
