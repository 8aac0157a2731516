"""One safetensors file: read suspiciously, written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from glassformer.checkpoints import files
from glassformer.checkpoints.files import DTYPES, TensorFile, digests, read_tensors, write_tensors


def example() -> dict[str, Tensor]:
    return {"a": torch.arange(6, dtype=torch.float32).view(2, 3), "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}


def forge(path: Path, header: Any, payload: bytes = b"") -> Path:
    """A file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + payload)
    return path


def entry(shape: list[Any], begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert tensor.shape == other[name].shape, name
        assert files.raw(tensor) == files.raw(other[name]), name


def drawn(dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Random bytes: NaN payloads, subnormals and all."""
    size = torch.empty(shape, dtype=dtype).numel() * dtype.itemsize
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8)
    return raw.view(dtype).view(shape) if size else torch.empty(shape, dtype=dtype)


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
states = st.dictionaries(
    st.text(min_size=1, max_size=8), st.tuples(st.sampled_from(sorted(DTYPES)), shapes), max_size=5
)


@given(states, st.booleans())
def test_every_tensor_of_every_dtype_comes_back_bit_for_bit(tmp_path_factory, spec, with_digests):
    state = {name: drawn(DTYPES[dtype], shape) for name, (dtype, shape) in spec.items()}
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    write_tensors(path, state, digests=with_digests)
    assert_same(read_tensors(path), state)


@pytest.mark.parametrize("with_digests", [False, True])
def test_the_safetensors_library_reads_what_we_write_and_we_what_it_writes(tmp_path, with_digests):
    state = {f"x.{dtype}": drawn(DTYPES[dtype], (3, 2)) for dtype in sorted(DTYPES)} | {"scalar": torch.tensor(2.5)}
    write_tensors(tmp_path / "ours", state, digests=with_digests, metadata={"step": "7"})
    assert_same(load_file(tmp_path / "ours"), state)
    with safe_open(tmp_path / "ours", "pt") as file:
        assert file.metadata()["format"] == "pt"
        assert file.metadata()["step"] == "7"
    save_file(state, tmp_path / "theirs", metadata={"format": "pt"})
    assert_same(read_tensors(tmp_path / "theirs"), state)


def test_views_and_tensors_that_share_memory_are_written_as_they_look(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    state = {"turned": base.T, "column": base[:, 1], "whole": base, "gradient": base.clone().requires_grad_()}
    write_tensors(tmp_path / "x", state)
    assert_same(read_tensors(tmp_path / "x"), {name: t.detach().clone() for name, t in state.items()})


def test_every_tensor_starts_at_a_multiple_of_its_width(tmp_path):
    state = {"b": torch.ones(3, dtype=torch.bool), "d": torch.ones(2, dtype=torch.float64), "h": torch.ones(1).half()}
    write_tensors(tmp_path / "x", state)
    for name, found in TensorFile(tmp_path / "x").entries.items():
        assert found.begin % found.dtype.itemsize == 0, name


def test_a_cut_at_any_byte_is_refused(tmp_path):
    for with_digests in (False, True):
        write_tensors(tmp_path / "whole", example(), digests=with_digests)
        data = (tmp_path / "whole").read_bytes()
        for length in range(len(data)):
            (tmp_path / "cut").write_bytes(data[:length])
            with pytest.raises(ValueError, match="cut"):
                read_tensors(tmp_path / "cut")
        (tmp_path / "cut").write_bytes(data + b"\0")
        with pytest.raises(ValueError, match="1 bytes more"):
            read_tensors(tmp_path / "cut")


def test_with_digests_any_flipped_bit_is_refused(tmp_path):
    write_tensors(tmp_path / "whole", {"b": example()["b"]}, digests=True, metadata={"step": "100"})
    data = (tmp_path / "whole").read_bytes()
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with path.open("r+b", buffering=0) as file:
        for bit in range(8 * len(data)):
            os.pwrite(file.fileno(), bytes([data[bit // 8] ^ 1 << bit % 8]), bit // 8)
            with pytest.raises(ValueError, match="damaged"):  # the file is called so; each message names it
                read_tensors(path, require_digests=True)
            os.pwrite(file.fileno(), data[bit // 8 : bit // 8 + 1], bit // 8)
    assert torch.equal(read_tensors(path, require_digests=True)["b"], example()["b"])


def test_a_damaged_tensor_is_named_and_the_others_can_be_read(tmp_path):
    write_tensors(tmp_path / "x", example(), digests=True)
    data = bytearray((tmp_path / "x").read_bytes())
    data[TensorFile(tmp_path / "x").entries["b"].begin] ^= 4
    (tmp_path / "x").write_bytes(data)
    file = TensorFile(tmp_path / "x")
    assert torch.equal(file["a"], example()["a"])
    with pytest.raises(ValueError, match="tensor 'b' is damaged"):
        file["b"]


def test_digests_are_those_in_the_file_and_tell_dtype_and_shape_apart(tmp_path):
    state = example()
    write_tensors(tmp_path / "x", state, digests=True)
    assert TensorFile(tmp_path / "x").digests == digests(state)
    zeros = {"a": torch.zeros(2, 3), "b": torch.zeros(3, 2), "c": torch.zeros(2, 3, dtype=torch.int32)}
    assert len(set(digests(zeros).values())) == 3


def test_a_file_without_digests_is_refused_where_they_are_required(tmp_path):
    write_tensors(tmp_path / "x", example())
    assert_same(read_tensors(tmp_path / "x"), example())
    with pytest.raises(ValueError, match="has no SHA-256"):
        read_tensors(tmp_path / "x", require_digests=True)


FOUR = b"\0" * 4
TWICE = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    ("header", "payload", "fault"),
    [
        ([], b"", "header is a list"),
        (b"{", b"", "not valid JSON"),
        (b"\xff\xfe", b"", "not valid JSON"),
        (b"[" * 100_000, b"", "not valid JSON"),
        (TWICE, FOUR, "name 'a' twice"),
        ({"a": 3}, b"", "'a' must have dtype, shape and data_offsets"),
        ({"a": {"dtype": "F32", "shape": [1]}}, FOUR, "'a' must have dtype, shape and data_offsets"),
        ({"a": entry([1], 0, 4) | {"more": 1}}, FOUR, "'a' must have dtype, shape and data_offsets"),
        ({"a": entry([1], 0, 4, "F31")}, FOUR, "dtype 'F31'"),
        ({"a": entry([1], 0, 4, ["F32"])}, FOUR, "dtype"),
        ({"a": entry([-1], 0, 4)}, FOUR, r"shape \[-1\]"),
        ({"a": entry([1.0], 0, 4)}, FOUR, "shape"),
        ({"a": entry([True], 0, 4)}, FOUR, "shape"),
        ({"a": entry([2**62, 4], 0, 4)}, FOUR, "needs 73,786,976,294,838,206,464 bytes, has 4"),
        ({"a": entry([2], 0, 4)}, FOUR, "needs 8 bytes, has 4"),
        ({"a": entry([1], 4, 0)}, FOUR, "needs 4 bytes, has -4"),
        ({"a": entry([1], -4, 0)}, FOUR, "data_offsets"),
        ({"a": entry([1], 4, 8)}, FOUR * 2, "'a' leaves a gap after the header"),
        ({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, FOUR * 3, "'b' leaves a gap after tensor 'a'"),
        ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, FOUR, "'b' overlaps with tensor 'a'"),
        ({"a": entry([2], 0, 8), "b": entry([1], 4, 8)}, FOUR * 2, "'b' overlaps with tensor 'a'"),
        ({"a": entry([1], 0, 4)}, FOUR * 2, "4 bytes more"),
        ({"a": entry([1], 0, 4)}, b"", "cut off"),
        ({"__metadata__": {"step": 3}}, b"", "must be an object of texts"),
        ({"__metadata__": "pt"}, b"", "must be an object of texts"),
    ],
)
def test_forged_headers_are_refused_with_the_reason(tmp_path, header, payload, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        TensorFile(forge(tmp_path / "forged", header, payload))
    assert str(tmp_path / "forged") in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path):
    torch.save(example(), tmp_path / "pickle")
    (tmp_path / "text").write_text("To be, or not to be: that is the question. " * 10)
    for name in ("pickle", "text"):
        with pytest.raises(ValueError, match="no safetensors file: its first 8 bytes announce"):
            TensorFile(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        TensorFile(tmp_path / "nothing")


@pytest.mark.parametrize("tensor", [torch.zeros(2, dtype=torch.complex128), torch.zeros(2, 2).to_sparse()])
def test_what_the_format_cannot_say_is_refused_before_anything_is_written(tmp_path, tensor):
    with pytest.raises(TypeError, match="tensor 'x'"):
        write_tensors(tmp_path / "x", {"a": torch.zeros(1), "x": tensor})
    with pytest.raises(ValueError, match="__metadata__"):
        write_tensors(tmp_path / "x", {"__metadata__": torch.zeros(1)})
    assert not list(tmp_path.iterdir())


def test_tensors_are_asked_for_one_at_a_time_and_once(tmp_path):
    class Counting(dict):
        reads: list[str] = []  # noqa: RUF012

        def __getitem__(self, name):
            self.reads.append(name)
            return super().__getitem__(name)

    state = Counting(example())
    write_tensors(tmp_path / "x", state, like={name: t.to("meta") for name, t in example().items()}, digests=True)
    assert sorted(state.reads) == ["a", "b"]
    assert_same(read_tensors(tmp_path / "x", require_digests=True), example())


def test_large_tensors_can_be_read_and_changed(tmp_path):
    state = {"large": torch.randn(600_000)}
    write_tensors(tmp_path / "x", state, digests=True)
    read = read_tensors(tmp_path / "x")["large"]
    assert torch.equal(read, state["large"])
    read.mul_(2)
    assert torch.equal(read_tensors(tmp_path / "x")["large"], state["large"]), "the file is not changed with the tensor"


def test_a_tensor_at_an_odd_place_is_read(tmp_path):
    values = torch.tensor([1.5, -2.0])
    header = json.dumps(
        {
            "odd": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
            "after": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
        }
    ).encode()
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + b"\1\2\3" + values.numpy().tobytes())
    read = read_tensors(tmp_path / "x")
    assert read["odd"].tolist() == [1, 2, 3]
    assert torch.equal(read["after"], values)


def test_tensors_that_were_let_go_are_read_again(tmp_path):
    state = {"a": torch.randn(50_000), "b": torch.randn(50_000)}
    write_tensors(tmp_path / "x", state)
    file = TensorFile(tmp_path / "x")
    read = dict(file)
    assert_same(read, state)
    file.let_go()
    assert_same(read, state)
    assert_same(dict(file), state)
