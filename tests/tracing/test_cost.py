"""What a model costs by formula is what a real run shows: parameters, FLOPs, cache, activations, the peak of memory."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from glassformer import cli
from glassformer.models.catalog import CONFIGS, HEADS, MODELS, build
from glassformer.ops import attend
from glassformer.ops.mask import Mask
from glassformer.parts import kernels
from glassformer.tracing.cost import cost, human, optimizer_bytes, skeleton_of
from glassformer.tracing.cost_check import check, saved
from glassformer.tracing.hardware import HARDWARE, hardware
from glassformer.tracing.ledger import Ledger
from glassformer.tracing.part_costs import CountedAttend
from glassformer.training.optimizers import OPTIMIZERS, ModelOptimizer

TOKENS = {"vocab_size": 600, "dim": 64, "num_heads": 4}
BLOCKS, BOTH = {"num_layers": 2}, {"num_encoder_layers": 2, "num_decoder_layers": 2}
GROUPED = {"num_kv_heads": 2, "head_dim": 16, "hidden_dim": 160}
SMALL = {
    "gpt": TOKENS | BLOCKS,
    "gpt2": TOKENS | BLOCKS,
    "llama": TOKENS | BLOCKS | GROUPED,
    "mistral": TOKENS | BLOCKS | GROUPED | {"window_size": 48},
    "qwen3": TOKENS | BLOCKS | GROUPED,
    "gemma3": TOKENS | BLOCKS | GROUPED | {"window_size": 48, "num_layers": 3, "global_every": 3},
    "mpt": TOKENS | BLOCKS,
    "mixtral": TOKENS | BLOCKS | GROUPED | {"num_experts": 4},
    "deepseek": TOKENS | {
        "num_layers": 3, "num_dense_layers": 1, "query_latent_dim": 32, "latent_dim": 24, "head_dim": 16,
        "rotary_dim": 8, "value_dim": 16, "hidden_dim": 128, "expert_dim": 32, "num_experts": 8, "num_chosen": 2,
        "num_groups": 2, "num_chosen_groups": 1,
    },
    "bert": TOKENS | BLOCKS | {"hidden_dim": 256},
    "roberta": TOKENS | BLOCKS | {"hidden_dim": 256},
    "distilbert": TOKENS | BLOCKS | {"hidden_dim": 256},
    "modernbert": TOKENS | BLOCKS | {"hidden_dim": 128, "window_size": 48},
    "t5": TOKENS | BOTH | {"head_dim": 16, "hidden_dim": 128},
    "bart": TOKENS | BOTH,
    "transformer": TOKENS | BOTH | {"hidden_dim": 128},
    "vit": BLOCKS | {"dim": 64, "num_heads": 4, "hidden_dim": 128, "image_size": 64},
    "swin": {"image_size": 56, "dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 7},
}  # fmt: skip
NAMES = list(SMALL)
PUBLISHED = ("gpt2", "llama3-8b", "mixtral-8x7b", "bert-base", "modernbert-base", "t5-small", "bart", "vit", "swin")


def small(name: str):
    known = type(CONFIGS[name]).__dataclass_fields__
    return replace(CONFIGS[name], **{key: value for key, value in SMALL[name].items() if key in known})


EXPERTS = ("mixtral", "deepseek")  # which tokens go where is not known before: many of them, so that it evens out


def compared(name, *, length=96, **options):
    torch.manual_seed(0)
    rows, length = (8, max(length, 256)) if name in EXPERTS else (2, length)
    config = small(name)
    return {row.name: row for row in check(build(config), cost(config, rows, length, **options))}


@pytest.mark.parametrize(
    "name", [name if name in PUBLISHED else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_parameters_are_the_published_models_own_and_no_weight_is_made(name):
    assert cost(name, 1, 16).parameters == skeleton_of(name).num_parameters


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_costs_what_is_said(name):
    found = compared(name, training=True)
    for row in found.values():  # the x-ray's own numbers among them
        exact = row.name in ("parameters", "weights") or ("FLOPs forward" in row.name and name not in EXPERTS)
        assert abs(row.difference) <= (1e-12 if exact else 0.05), row
    assert abs(found["activations kept"].difference) <= (0.01 if name not in (*EXPERTS, "swin") else 0.04)
    assert abs(found["FLOPs of a step"].difference) <= (0.03 if name in EXPERTS else 0.001)
    assert abs(found["bytes that products move, x-ray"].difference) <= 0.01
    assert "peak of both passes, x-ray" in found


@pytest.mark.parametrize("name", NAMES)
def test_recomputed_blocks_keep_what_is_said(name):
    found = compared(name, training=True, checkpoint_activations=True)
    assert abs(found["activations kept, checkpointed"].difference) <= 0.01
    assert abs(found["peak of a step"].difference) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "length", "layers"), [(4, 256, 4), (2, 512, 1)])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in EXPERTS])
def test_recomputed_blocks_peak_where_it_is_said_in_deep_models_and_in_long_rows(name, rows, length, layers):
    torch.manual_seed(0)
    depths = ("num_layers", "num_encoder_layers", "num_decoder_layers")
    config = replace(small(name), **{depth: layers for depth in depths if hasattr(small(name), depth)})
    said = cost(config, rows, length, training=True, checkpoint_activations=True)
    peak = {row.name: row for row in check(build(config), said)}["peak of a step"]
    assert abs(peak.difference) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "mpt", "bert", "t5", "mixtral"])
def test_long_rows_keep_what_other_kernels_keep(name):
    found = compared(name, length=512, training=True)
    assert abs(found["activations kept"].difference) <= (0.03 if name in EXPERTS else 0.01)
    assert abs(found["peak of a step"].difference) <= 0.05


@pytest.mark.slow
def test_a_small_model_of_windows_needs_a_little_more_than_is_said_for_its_masks():
    peak = compared("modernbert", length=512, training=True)["peak of a step"]
    assert 0 <= peak.measured - peak.said <= 4 * 512 * 512  # bytes: masks that are written out are not counted


@pytest.mark.parametrize("mask", [Mask.causal(), Mask.causal() & Mask.window(128)], ids=["causal", "window"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_attention_is_said_to_be_tiled_where_it_is(mask, dtype, monkeypatch):
    q, kernels_run = torch.randn(1, 2, 1024, 8, dtype=dtype), []
    for name in ("products", "tiled", "windowed", "sdpa"):
        kernel = getattr(attend, name)
        monkeypatch.setattr(
            attend, name, lambda *a, name=name, kernel=kernel, **o: kernels_run.append(name) or kernel(*a, **o)
        )
    ledger, options = Ledger("cpu", dtype.itemsize), {"mask": mask, "score_bias": None, "scale": 1.0, "dropout": 0.0}
    with torch.no_grad():
        attend.auto(q, q, q, **options)
        counted = CountedAttend(ledger, "attention", automatic=True)
        counted(*(x.to("meta") for x in (q, q, q)), **options)
    assert (kernels_run == ["tiled"]) == (not ledger.kept)
    assert ledger.entries[0].moved == 4 * q.nbytes


@pytest.mark.parametrize("name", [n for n in NAMES if hasattr(MODELS[n], "new_cache")])
@pytest.mark.parametrize("length", [1, 40, 200])
def test_the_key_value_cache_is_as_large_as_the_one_that_is_allocated(name, length):
    model = build(small(name))
    assert cost(small(name), 3, min(length, 200)).memory.kv_cache == model.new_cache(3, length).num_bytes


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma3", "mpt", "mixtral", "deepseek"])
def test_one_cached_token_takes_the_flops_that_are_said(name):
    torch.manual_seed(0)
    model, ids = build(small(name)).eval(), torch.randint(0, 600, (2, 71))
    cache = model.new_cache(2, 71)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), kernels(model, attend="reference", linear="reference"):
        model(ids[:, :70], cache=cache)
        with counter:
            model(ids[:, 70:], cache=cache)
    assert cost(small(name), 2, 70, cached=True).flops == counter.get_total_flops()


def test_of_experts_a_token_meets_the_chosen_ones():
    found = cost("mixtral-8x7b", 1, 8)
    assert round(found.parameters / 1e9, 1) == 46.7  # Jiang et al. 2024, section 1: 47B, of which 13B are active
    assert round(found.active_parameters / 1e9, 1) == 12.9


def test_heads_are_counted():
    base, headed = cost("bert-base", 1, 8), cost("bert-base", 1, 8, head="masked_lm")
    assert headed.parameters == skeleton_of("bert-base", "masked_lm").num_parameters
    assert headed.flops_forward > base.flops_forward + 2 * 8 * 768 * 30_000
    assert "masked_lm" in HEADS["bert"]


def test_a_learned_language_model_needs_six_flops_for_each_parameter_and_token_and_attention_beside():
    said = cost("llama-7b", 1, 1024, training=True)
    products = said.parameters - 32_000 * 4096 - 65 * 4096  # the embedding is looked up, the norms multiply no matrix
    assert said.flops_step == 1024 * 6 * products + 3 * 32 * 4 * 1024 * 1024 * 4096


def test_recomputing_costs_the_blocks_forward_pass_once_more():
    plain = cost("gpt2", 8, 512, training=True)
    again = cost("gpt2", 8, 512, training=True, checkpoint_activations=True)
    head = next(row.flops for row in plain.rows if row.kind == "head")
    assert again.flops_step - plain.flops_step == plain.flops_forward - head
    assert again.peak_bytes < plain.peak_bytes


def test_one_cached_token_reads_all_weights_and_computes_next_to_nothing():
    token, whole = cost("llama3.2-1b", 1, 1024, cached=True), cost("llama3.2-1b", 1, 1024)
    assert token.flops < whole.flops / 500
    assert token.moved > token.memory.weights
    assert token.intensity < 1 < whole.intensity
    fast = hardware("h100")
    assert token.seconds(fast) == pytest.approx(token.moved / fast.memory_rate, rel=0.02)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_the_optimizers_state_is_as_large_as_it_becomes(name):
    model = build(small("llama"))
    optimizer = ModelOptimizer(model, OPTIMIZERS[name]())
    model(torch.zeros(1, 4, dtype=torch.long), targets=torch.zeros(1, 4, dtype=torch.long)).loss.backward()
    optimizer.step()
    assert optimizer_bytes(model, name) == sum(x.nbytes for x in optimizer.state_dict().values() if x.ndim)


def test_what_autograd_keeps_is_counted_once_however_many_parts_read_it():
    layer = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    layer.blocks = torch.nn.ModuleList([layer[0]])
    x = torch.randn(4, 8, requires_grad=True)
    with saved(layer) as kept:
        layer[0](x) + layer[1](x)
    assert sum(kept.values()) == x.nbytes


def test_the_public_names_are_the_functions():
    from glassformer import tracing

    assert tracing.cost is cost
    assert tracing.hardware is hardware
    assert callable(tracing.plan)


def test_published_figures_have_a_source_and_are_known_by_name():
    assert all(machine.source and machine.flops["bfloat16"] > machine.flops["float32"] for machine in HARDWARE.values())
    assert hardware("RTX-4090").name == "NVIDIA GeForce RTX 4090"
    assert hardware("h200").memory_bytes > hardware("h100").memory_bytes
    this = hardware("this")
    assert this.peak(torch.float32) > 1e9
    with pytest.raises(ValueError, match=r"no machine 'h10'.*h100"):
        hardware("h10")
    with pytest.raises(ValueError, match="no figure for float64"):
        hardware("h100").peak(torch.float64)


@pytest.mark.parametrize(("arguments", "options", "sentence"), [
    (("gpt3", 1, 8), {}, "there is no model 'gpt3'"),
    (("gpt2", 0, 8), {}, "batch_size is 0"),
    (("gpt2", 1, 8, "int8"), {}, "no dtype 'int8'"),
    (("gpt2", 1, 8), {"optimizer": "adam"}, r"no optimizer 'adam' \(did you mean 'adamw'"),
    (("gpt2", 1, 8), {"device": "tpu"}, "device is 'tpu'"),
    (("gpt2", 1, 4096), {}, "4096 tokens do not fit"),
    (("bert-base", 1, 8), {"cached": True}, "has no cache"),
    (("gpt2", 1, 8), {"cached": True, "training": True}, "not both"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_a_sentence(arguments, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        cost(*arguments, **options)


def test_large_numbers_read_easily():
    assert [human(0), human(999), human(1_234_000), human(2.5e12, "FLOP")] == ["0 B", "999 B", "1.234 MB", "2.5 TFLOP"]


def test_the_command_prints_formulas_beside_measurements(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setitem(CONFIGS, "gpt2", small("gpt2"))
    assert cli.main(["cost", "gpt2", "--batch-size", "2", "--length", "32", "--training", "--check"]) == 0
    said = capsys.readouterr().out
    for words in (
        "feed-forward",
        "optimizer state",
        "arithmetic intensity",
        "measured here",
        "FLOPs forward, x-ray",
        "bytes that products move, x-ray",
        "peak of both passes, x-ray",
        "+0.00%",
        "peak of a step",
    ):
        assert words in said
    assert cli.main(["cost", "gpt-2"]) == 2
    assert "did you mean 'gpt2'" in capsys.readouterr().err
