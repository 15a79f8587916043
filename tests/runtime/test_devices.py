"""Placing torch models: the GPU with most free memory, the CPU when there is none or too little."""

from __future__ import annotations

import pytest

from mlops.runtime.devices import Device, Devices, nvml_table

GIB = 1 << 30


def devices(*free_gib: float) -> Devices:
    return Devices(
        lambda: [Device(f"cuda:{n}", "Test GPU", int(free * GIB), 80 * GIB) for n, free in enumerate(free_gib)]
    )


@pytest.mark.parametrize(
    ("format_name", "free_gib", "need_gib", "where"),
    [
        ("torch_export", (10, 40, 20), 1, "cuda:1"),
        ("torchscript", (10, 9), 1, "cuda:0"),
        ("sklearn", (10, 40), 1, "cpu"),
        ("onnx", (10,), 1, "cpu"),
        ("torch_export", (), 1, "cpu"),
        ("torch_export", (1, 2), 4, "cpu"),
    ],
)
def test_a_model_goes_where_most_memory_is_free(format_name: str, free_gib, need_gib: int, where: str) -> None:
    assert devices(*free_gib).pick(format_name, need_gib * GIB) == where


def test_memory_promised_to_a_running_load_counts_as_taken() -> None:
    table = devices(10, 8.9)
    assert [table.pick("torchscript", 4 * GIB) for _ in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert table.pick("torchscript", 4 * GIB) == "cpu"
    table.settle("cuda:1", 4 * GIB)
    assert table.pick("torchscript", 4 * GIB) == "cuda:1"


def test_the_table_is_json_and_a_machine_without_a_driver_has_an_empty_one() -> None:
    assert devices(2).status() == [
        {"name": "cuda:0", "title": "Test GPU", "free_bytes": 2 * GIB, "total_bytes": 80 * GIB}
    ]
    assert isinstance(nvml_table(), list)
