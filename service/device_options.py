"""How graphs run on a device, as the settings say it. Imports nothing large: a consumer reads settings too."""

from dataclasses import dataclass
from typing import Literal

Providers = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class DeviceOptions:
    """What the settings choose beside the provider."""

    search: Literal["cpu", "device"] = "cpu"  # device: the graph searches too, where it can do the model's search
    precision: Literal["float32", "float16"] = "float32"
    cuda_graphs: int = 64  # shapes of each graph that are captured
    memory_limit_mb: int = 0  # of each graph, 0 = none

    @property
    def as_on_a_device(self) -> bool:
        """Whether graphs run as on a device even where the device is the CPU."""
        return self.search == "device" or self.precision != "float32"


ON_CPU = DeviceOptions()
