"""from_pretrained and save_pretrained, on the smallest model that has everything."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from toy import Toy, ToyConfig, change_config, change_weights, their_folder, toy

from glassformer.checkpoints import table
from glassformer.checkpoints.files import TensorFile, read_tensors
from glassformer.checkpoints.looked import is_finite
from glassformer.checkpoints.pretrained import READ, Pretrained, load_folder
from glassformer.checkpoints.skeleton import skeleton
from glassformer.foundation.atomic import MARK


def assert_same(one: nn.Module, other: nn.Module) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("limit", [10**9, 200, 1])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, tied, limit):
    model = toy(tied=tied, base=3.0, scaling=2.0)
    model.save_pretrained(tmp_path / "m", max_shard_bytes=limit)
    again = Toy.from_pretrained(tmp_path / "m")
    assert again.config == model.config
    assert_same(again, model)
    assert (len(list((tmp_path / "m").glob("*.safetensors"))) == 1) == (limit == 10**9)
    for mine, theirs in zip(again.blocks, model.blocks, strict=True):
        assert torch.equal(mine.angles, theirs.angles), "a buffer that no file holds is computed anew"


def test_the_loaded_model_is_in_eval_mode_and_trains_like_a_built_one(tmp_path):
    model = toy()
    model.blocks[1].query.weight.requires_grad_(False)
    model.save_pretrained(tmp_path / "m")
    again = Toy.from_pretrained(tmp_path / "m")
    assert not any(module.training for module in again.modules())
    assert again.blocks[0].dropout.p == 0.5
    for parameter in again.parameters():
        assert type(parameter) is nn.Parameter
        assert parameter.requires_grad, "as the constructor has it; freezing is the user's"
        assert parameter.is_leaf
        assert parameter.is_contiguous()
        assert parameter.untyped_storage().nbytes() == parameter.nbytes
    copy.deepcopy(again)


def test_large_weights_that_the_file_has_turned_are_its_pages_until_they_are_to_learn(tmp_path, monkeypatch):
    model = toy()
    model.save_pretrained(tmp_path / "m")
    monkeypatch.setattr(table, "LARGE", 0)
    views = Toy.from_pretrained(tmp_path / "m")
    parameters = dict(views.named_parameters())
    query, key = (parameters[f"blocks.1.{name}.weight"] for name in ("query", "key"))
    assert query.untyped_storage().data_ptr() == key.untyped_storage().data_ptr()
    views.save_pretrained(tmp_path / "again")
    before, after = (read_tensors(tmp_path / name / "model.safetensors") for name in ("m", "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.is_contiguous() for p in Toy.from_pretrained(tmp_path / "m", dtype=torch.float64).parameters())
    with torch.inference_mode():
        views.train()
    for name, parameter in views.named_parameters():
        assert parameter is parameters[name], "an optimizer may hold it"
        assert parameter.is_contiguous()
        assert not parameter.is_inference()
        assert torch.equal(parameter, model.get_parameter(name))
    assert query.untyped_storage().nbytes() == query.nbytes


def test_the_dtype_is_the_files_or_the_one_asked_for(tmp_path):
    model = toy().to(torch.bfloat16)
    model.save_pretrained(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == "bfloat16"
    assert {p.dtype for p in Toy.from_pretrained(tmp_path / "m").parameters()} == {torch.bfloat16}
    wide = Toy.from_pretrained(tmp_path / "m", dtype=torch.float64)
    assert {p.dtype for p in wide.parameters()} == {torch.float64}
    assert wide.blocks[0].steps.dtype == torch.int64, "what counts is not cast"
    assert torch.equal(wide.embed.weight, model.embed.weight.double())


def test_weights_of_several_dtypes_need_one_to_be_named(tmp_path):
    folder = their_folder(tmp_path / "m")
    change_weights(folder, toy__wte__weight=torch.zeros(11, 4, dtype=torch.float16))
    with pytest.raises(ValueError, match=r"several dtypes \(.*'toy\.wte\.weight' is torch\.float16.*say which"):
        Toy.from_pretrained(folder)
    assert {p.dtype for p in Toy.from_pretrained(folder, dtype=torch.float32).parameters()} == {torch.float32}


def test_the_parameters_go_to_the_device_asked_for(tmp_path):
    again = Toy.from_pretrained(their_folder(tmp_path / "m"), device="cpu")
    assert {tensor.device.type for tensor in (*again.parameters(), *again.buffers())} == {"cpu"}


def test_no_weights_are_drawn_and_no_random_numbers_used_up(tmp_path):
    folder = their_folder(tmp_path / "m")
    before = torch.get_rng_state()
    Toy.from_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_skeleton_is_built_without_drawing_what_it_does_not_hold():
    drawn: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            drawn.append(str(function))
            return function(*args, **(kwargs or {}))

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)
            nn.init.normal_(self.linear.weight)
            self.table = torch.empty(3, device="cpu").fill_(7)

    with Watch():
        model = skeleton(Constant)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.table.tolist() == [7, 7, 7], "what is asked for elsewhere is there"
    assert [name for name in drawn if "normal" in name or "uniform" in name] == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"toy__wte__weight": torch.zeros(10, 4)},
            r"wte\.weight' gives embed\.weight the shape \(10, 4\), .*\(11, 4\)",
        ),
        ({"toy__h__0__proj__weight": torch.zeros(4)}, r"blocks\.0\.output\.weight the shape \(4,\), .* \(4, 4\)"),
        ({"toy__h__1__attn__c_attn__weight": torch.zeros(4, 15)}, r"blocks\.1\.query\.weight the shape \(5, 4\)"),
        ({"toy__h__1__attn__c_attn__weight": torch.zeros(4, 13)}, r"c_attn\.weight' has 13 rows, which do not split"),
        ({"toy__h__1__proj__bias": None}, r"lacks toy\.h\.1\.proj\.bias \(ours: blocks\.1\.output\.bias\)"),
        ({"toy__h__1__attn__c_attn__bias": None}, r"lacks toy\.h\.1\.attn\.c_attn\.bias \(ours: .*query\.bias"),
        ({"toy__h__2__proj__bias": torch.zeros(4)}, r"holds toy\.h\.2\.proj\.bias .*more than its config\.json says"),
        ({"toy__h__1__prj__bias": torch.zeros(4)}, r"no row of the table names 'toy\.h\.1\.prj\.bias'; the nearest"),
        ({"toy__wte__weight": torch.zeros(11, 4, dtype=torch.int64)}, r"toy\.wte\.weight' is torch\.int64"),
        ({"toy__wte__weight": torch.zeros(11, 4, dtype=torch.complex64)}, r"toy\.wte\.weight' is torch\.complex64"),
        (
            {"toy__wte__weight": torch.zeros(11, 4, dtype=torch.float8_e4m3fn)},
            r"is torch\.float8_e4m3fn; expected floats",
        ),
        ({"toy__h__0__steps": torch.tensor(0.5)}, r"toy\.h\.0\.steps' is torch\.float32; expected torch\.int64"),
        ({"toy__h__0__steps": torch.tensor(1, dtype=torch.uint8)}, r"steps' is torch\.uint8; expected torch\.int64"),
        (
            {"toy__h__0__proj__bias": torch.tensor([0, torch.nan, 0, 0])},
            r"toy\.h\.0\.proj\.bias' holds NaN or infinity",
        ),
        ({"toy__h__0__proj__bias": torch.tensor([0, 0, 0, -torch.inf])}, r"toy\.h\.0\.proj\.bias' holds NaN or inf"),
        ({"lm_head__weight": torch.zeros(11, 4)}, r"'lm_head\.weight' and 'toy\.wte\.weight' are tied"),
        ({"wte__weight": torch.zeros(11, 4)}, r"'toy\.wte\.weight' and 'wte\.weight' both stand for 'embed\.weight'"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change, fault):
    folder = their_folder(tmp_path / "m")
    change_weights(folder, **change)
    with pytest.raises(ValueError, match=fault):
        Toy.from_pretrained(folder)


def test_structure_is_checked_before_any_tensor_is_read(tmp_path, monkeypatch):
    folder = their_folder(tmp_path / "m")
    change_weights(folder, toy__h__1__proj__bias=None)
    monkeypatch.setattr(TensorFile, "__getitem__", lambda self, name: pytest.fail(f"{name} was read"))
    with pytest.raises(ValueError, match="lacks"):
        Toy.from_pretrained(folder)


def test_not_finite_weights_can_be_asked_for(tmp_path):
    folder = their_folder(tmp_path / "m")
    change_weights(folder, toy__h__0__proj__bias=torch.tensor([0, torch.nan, 0, torch.inf]))
    bias = Toy.from_pretrained(folder, allow_nonfinite=True).blocks[0].output.bias
    assert bias.isnan().tolist() == [False, True, False, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_value_among_many_that_is_not_finite_is_found_and_large_ones_are_not_taken_for_it(dtype):
    most = torch.finfo(dtype).max
    assert is_finite(torch.full((300, 7), most, dtype=dtype)), "their sum overflows"
    for wrong in ([torch.nan], [torch.inf], [-torch.inf], [torch.inf, -torch.inf]):
        for place in (0, 1031, 2098):
            values = torch.full((2100,), most, dtype=dtype)
            values[place : place + len(wrong)] = torch.tensor(wrong, dtype=dtype)
            assert not is_finite(values)
            assert not is_finite(values.clamp(-1, 1).where(values.abs() <= most, values))


def test_a_cast_that_overflows_is_refused(tmp_path):
    folder = their_folder(tmp_path / "m")
    change_weights(folder, toy__h__0__proj__bias=torch.tensor([0, 1e5, 0, 0]))
    Toy.from_pretrained(folder, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"'toy\.h\.0\.proj\.bias', as torch\.float16, holds NaN or infinity"):
        Toy.from_pretrained(folder, dtype=torch.float16)


def test_a_head_beside_a_tied_embedding_is_taken_when_equal(tmp_path):
    folder = their_folder(tmp_path / "m")
    model = Toy.from_pretrained(folder)
    change_weights(folder, lm_head__weight=model.embed.weight.detach().clone())
    assert_same(Toy.from_pretrained(folder), model)
    change_weights(folder, toy__wte__weight=None)
    assert_same(Toy.from_pretrained(folder), model)


@pytest.mark.parametrize("attributes", [{"n_embd": 2**31 - 1, "vocab_size": 2**31 - 1}, {"n_embd": 0, "head_dim": 0}])
def test_a_model_that_cannot_be_built_is_refused(tmp_path, monkeypatch, attributes):
    folder = their_folder(tmp_path / "m")
    change_config(folder, **attributes)
    plain = nn.Embedding.__init__
    monkeypatch.setattr(nn.Embedding, "__init__", lambda self, v, d: (1 // d, plain(self, v, d))[1])
    with pytest.raises(ValueError, match=r"no Toy can be built as its config\.json says: "):
        Toy.from_pretrained(folder)


def test_a_config_that_says_untied_needs_the_head(tmp_path):
    folder = their_folder(tmp_path / "m")
    change_config(folder, tie_word_embeddings=False)
    body = r"asks for: the body without its head; save it with its head \(as ToyLMHead\), or set tie_word_embeddings to"
    with pytest.raises(
        ValueError, match=rf"lacks lm_head\.weight \(ours: head\.weight\), which its config\.json {body}"
    ):
        Toy.from_pretrained(folder)
    change_weights(folder, toy__wte__weight=None)
    with pytest.raises(ValueError, match=r"lacks toy\.wte\.weight.* asks for$"):
        Toy.from_pretrained(folder)


def test_a_damaged_payload_is_refused_by_name(tmp_path):
    toy().save_pretrained(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[TensorFile(path).entries["toy.h.0.proj.weight"].begin + 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors: tensor 'toy\.h\.0\.proj\.weight' is damaged"):
        Toy.from_pretrained(tmp_path / "m")


def test_wrong_folders_are_refused(tmp_path):
    folder = their_folder(tmp_path / "m")
    with pytest.raises(NotADirectoryError, match="is a file"):
        Toy.from_pretrained(folder / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Toy.from_pretrained(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"has no config\.json, so it is not a model's folder \(it holds nothing\)"):
        Toy.from_pretrained(tmp_path / "empty")
    change_config(folder, architectures="ToyLMHead")
    with pytest.raises(ValueError, match=r"architectures='ToyLMHead'; expected a list"):
        Toy.from_pretrained(folder)
    change_config(folder, model_type="bert", architectures=["ToyLMHead"])
    with pytest.raises(ValueError, match="holds a 'bert' model; Toy opens toy"):
        Toy.from_pretrained(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        Toy.from_pretrained(folder)


@pytest.mark.parametrize(
    ("placement", "error", "message"),
    [
        ({"dtype": "bfloat16"}, TypeError, "dtype is 'bfloat16', a str; expected one such as torch.bfloat16"),
        ({"dtype": torch.int8}, ValueError, "dtype is torch.int8; expected a float of 16, 32 or 64 bits"),
        ({"device": "gpu"}, ValueError, "device is 'gpu'; expected a name such as 'cpu'"),
        ({"device": "meta"}, ValueError, "device is 'meta', where no weights can lie"),
    ],
)
def test_what_weights_cannot_be_or_where_is_refused_by_its_name(placement, error, message, tmp_path):
    folder = their_folder(tmp_path / "m")
    with pytest.raises(error, match=message):
        Toy.from_pretrained(folder, **placement)


def test_more_layers_than_there_are_tensors_are_refused_before_they_are_built(tmp_path):
    folder = their_folder(tmp_path / "m")
    change_config(folder, n_layer=10**12)
    with pytest.raises(ValueError, match=r"m: config\.json has n_layer=1000000000000, but there are only \d+ tensors"):
        Toy.from_pretrained(folder)


def test_a_config_without_a_family_says_what_it_lacks(tmp_path):
    folder = their_folder(tmp_path / "m")
    for text, says in (("{}", "has no model_type"), ('{"model_type": 5}', "has model_type=5")):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=rf"config\.json {says}; expected the name of the family"):
            Toy.from_pretrained(folder)


def test_what_a_config_says_that_no_model_can_be_names_the_folder(tmp_path):
    folder = their_folder(tmp_path / "m")
    change_config(folder, rope=5)
    with pytest.raises(ValueError, match=r"m: config\.json has \{'rope': 5\}, which is not of the form expected"):
        Toy.from_pretrained(folder)


class Other(Toy):
    config_table = Toy.config_table


def test_the_class_is_picked_by_architecture_then_by_family(tmp_path):
    folder = their_folder(tmp_path / "m")
    assert type(load_folder(folder, {"ToyBase": Other, "ToyLMHead": Toy})) is Toy
    assert load_folder(folder, {"ToyLMHead": Toy}, dtype=torch.float64).embed.weight.dtype == torch.float64
    with pytest.raises(ValueError, match="holds a ToyLMHead; of this family these are opened: ToyBase"):
        load_folder(folder, {"ToyBase": Other})
    change_config(folder, architectures=None)
    assert type(load_folder(folder, {"ToyLMHead": Toy})) is Toy
    with pytest.raises(ValueError, match="names no architectures; use from_pretrained of one of Other, Toy"):
        load_folder(folder, {"ToyBase": Other, "ToyLMHead": Toy})
    change_config(folder, model_type="bert")
    with pytest.raises(ValueError, match="holds a 'bert' model; Toy opens toy"):
        load_folder(folder, {"ToyLMHead": Toy})


def test_saving_again_replaces_the_weights_and_keeps_the_rest(tmp_path):
    folder = tmp_path / "m"
    toy().save_pretrained(folder, max_shard_bytes=100)
    (folder / "tokenizer.json").write_text("{}")
    new = toy(num_layers=1)
    new.save_pretrained(folder, special_tokens={"eos_token_id": 5})
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert_same(Toy.from_pretrained(folder), new)
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == 5


@pytest.mark.parametrize("fault", [OSError("broken"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_old_model(tmp_path, monkeypatch, fault):
    folder, old = tmp_path / "m", toy()
    old.save_pretrained(folder, max_shard_bytes=100)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def failing(*args, **options):
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr("glassformer.checkpoints.pretrained.write_json", failing)
        with pytest.raises(type(fault)):
            toy(num_layers=1).save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert_same(Toy.from_pretrained(folder), old)


def test_what_cannot_be_saved_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="shiny=True cannot be said"):
        toy(shiny=True).save_pretrained(tmp_path / "m")
    with pytest.raises(ValueError, match="max_shard_bytes=0 must be positive"):
        toy().save_pretrained(tmp_path / "m", max_shard_bytes=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        toy().save_pretrained(tmp_path / "file")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}
    assert not list(tmp_path.glob(f".*{MARK}*"))


def test_a_buffer_that_nobody_fills_is_a_programming_error(tmp_path):
    class Forgetful(Pretrained, nn.Module):
        config_table = Toy.config_table
        table = {"[toy.]wte": "embed"}  # noqa: RUF012

        def __init__(self, config):
            super().__init__()
            self.config, self.embed = config, nn.Embedding(2, 2)
            self.register_buffer("angles", torch.ones(2), persistent=False)

    Forgetful(ToyConfig(num_layers=1)).save_pretrained(tmp_path / "m")
    with pytest.raises(RuntimeError, match="no file fills angles of Forgetful: its module needs reset_buffers"):
        Forgetful.from_pretrained(tmp_path / "m")


MEASURED = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from toy import Toy, ToyConfig

def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))

torch.zeros(1)
Toy.from_pretrained(sys.argv[2])  # what loading imports is not what it costs
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
model = Toy.from_pretrained(sys.argv[3])
print(status("VmHWM") - before, sum(parameter.nbytes for parameter in model.parameters()))
"""


def memory_and_weights(small: Path, large: Path) -> list[int]:
    """How many bytes the process grew by, at most, while it opened the large folder; and how many the weights have."""
    command = [sys.executable, "-c", MEASURED, Path(__file__).parent, small, large]
    return [int(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory by Linux's /proc")
def test_loading_needs_hardly_more_memory_than_the_weights(tmp_path):
    toy().save_pretrained(tmp_path / "small")
    toy(dim=1024, num_layers=30, vocab_size=5000).save_pretrained(tmp_path / "large")  # 0.5 GB
    memory, weights = memory_and_weights(tmp_path / "small", tmp_path / "large")
    assert memory <= 1.1 * weights


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory by Linux's /proc")
def test_what_is_only_looked_at_does_not_stay_in_memory(tmp_path):
    toy().save_pretrained(tmp_path / "small")
    toy(dim=8, num_layers=1, vocab_size=5_000_000).save_pretrained(tmp_path / "large")  # nearly all in one tensor
    memory, weights = memory_and_weights(tmp_path / "small", tmp_path / "large")
    assert weights > 2.3 * READ
    assert memory < 1.3 * READ, "neither for the digests nor for what is not finite"


@torch.inference_mode()
def test_a_model_that_is_loaded_in_inference_mode_is_as_any_other(tmp_path):
    model = Toy.from_pretrained(their_folder(tmp_path / "m"))
    assert not any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers()))
    assert all(parameter.requires_grad for parameter in model.parameters())
