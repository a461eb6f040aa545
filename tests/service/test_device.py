import numpy as np
import onnxruntime
import pytest

from service import device
from service.device import CPU, CUDA, DeviceTables, chosen_providers, cuda_options, offers_cuda, on_device
from service.device_options import DeviceOptions
from service.settings import Settings


@pytest.mark.parametrize(
    ("asked", "available", "used"),
    [
        ("cpu", [CUDA, CPU], [CPU]),
        ("auto", [CUDA, CPU], [CUDA, CPU]),
        ("cuda", [CUDA, CPU], [CUDA, CPU]),
        ("auto", [CPU], [CPU]),
        ("auto", ["TensorrtExecutionProvider", CUDA, CPU], [CUDA, CPU]),
    ],
)
def test_cuda_comes_first_where_it_is_there_and_not_refused(monkeypatch, asked, available, used):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    chosen = chosen_providers(asked, DeviceOptions(), capture=True)
    assert [one if isinstance(one, str) else one[0] for one in chosen] == used
    assert offers_cuda(asked) == (CUDA in used)


def test_memory_is_limited_by_the_setting_only():
    assert "gpu_mem_limit" not in cuda_options(DeviceOptions(), capture=False)
    limited = Settings(gpu_mem_limit_mb=2_048).device
    assert cuda_options(limited, capture=False)["gpu_mem_limit"] == str(2 << 30)


def test_graphs_are_captured_where_that_is_asked_for_and_products_are_never_rounded():
    assert [cuda_options(DeviceOptions(), capture)["enable_cuda_graph"] for capture in (True, False)] == ["1", "0"]
    assert cuda_options(DeviceOptions(), capture=True)["use_tf32"] == "0"


def test_every_option_is_text():
    assert {type(value) for value in cuda_options(DeviceOptions(memory_limit_mb=1), capture=True).values()} == {str}


def test_words_of_64_bits_come_as_their_bytes():
    words = np.array([1, 0x0203], np.uint64)
    assert on_device(words, "u1", "cpu").numpy().tolist() == [[1, 0, 0, 0, 0, 0, 0, 0], [3, 2, 0, 0, 0, 0, 0, 0]]


def test_tables_come_in_the_type_that_a_graph_declares():
    table = np.array([[1.0, 0.1]], np.float32)
    assert on_device(table, "f2", "cpu").numpy().dtype == np.float16
    assert (on_device(table, "f4", "cpu").numpy() == table).all()


def test_a_table_is_brought_to_the_device_once(monkeypatch):
    brought: list[str] = []
    monkeypatch.setattr(device, "on_device", lambda table, dtype, where: brought.append(dtype) or object())
    tables = DeviceTables({"item_vector": np.zeros((2, 2), np.float32)})
    values = [tables.value("item_vector", dtype, "cpu") for dtype in ("f4", "f4", "f2", "f4")]
    assert brought == ["f4", "f2"]
    assert values[0] is values[1] is values[3]
