"""GPT-2 and Llama by hand: equal to the torch models in logits, loss and every gradient, cached and padded."""

import dataclasses
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from mirrors import agrees_with_differences, close, close_gradients, redraw, torch_scaling, twin

import glassformer.models.gpt2
import glassformer.models.llama
from glassformer.by_hand import GPT2, AdamW, GPT2Config, Llama, LlamaConfig, clip_gradients, cross_entropy
from glassformer.by_hand.models.language_model import LanguageModel
from glassformer.by_hand.parts.position import DynamicScaling, LinearScaling, Llama3Scaling, YarnScaling

SHAPE = dict(vocab_size=31, max_positions=24, dim=24, num_layers=2, num_heads=4)
DRY = dict(embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0)
LLAMA3 = Llama3Scaling(factor=4.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_max_positions=12)
CONFIGS: dict[str, Any] = {
    "gpt2": GPT2Config(**SHAPE, **DRY),
    "gpt2, exact gelu, untied": GPT2Config(**SHAPE, **DRY, activation="gelu", hidden_dim=40, tied=False, norm_eps=0.1),
    "llama": LlamaConfig(**SHAPE, hidden_dim=40),
    "llama, grouped, biased, tied": LlamaConfig(
        **SHAPE, hidden_dim=40, num_kv_heads=2, head_dim=8, attention_bias=True, feed_forward_bias=True, tied=True,
        rope_base=300.0, norm_eps=0.1,
    ),
    "llama, multi-query, linear": LlamaConfig(
        **SHAPE, hidden_dim=40, num_kv_heads=1, rope_scaling=LinearScaling(factor=2.0)
    ),
    "llama, dynamic": LlamaConfig(
        **SHAPE, hidden_dim=40, rope_scaling=DynamicScaling(factor=2.0, max_positions=10)
    ),
    "llama, llama3": LlamaConfig(**SHAPE, hidden_dim=40, rope_scaling=LLAMA3),
    "llama, yarn": LlamaConfig(
        **SHAPE, hidden_dim=40, rope_scaling=YarnScaling(factor=2.0, original_max_positions=12)
    ),
}  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 31, (3, 14))
TARGETS = np.random.default_rng(1).integers(0, 31, (3, 14))
TARGETS[1, 3:6] = -100
LEFT = np.arange(14) >= np.array([[0], [5], [9]])  # three prompts, the later ones padded on the left


def build(name: str) -> LanguageModel:
    config = CONFIGS[name]
    model = (GPT2 if isinstance(config, GPT2Config) else Llama)(config)
    redraw(model)
    return model


def build_torch(ours: LanguageModel) -> Any:
    """The torch model with the same numbers."""
    config = ours.config
    room = glassformer.models.gpt2 if isinstance(ours, GPT2) else glassformer.models.llama
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    if "rope_scaling" in values:
        values["rope_scaling"] = torch_scaling(values["rope_scaling"])
    theirs = getattr(room, type(ours).__name__)(getattr(room, type(config).__name__)(**values))
    return twin(ours, theirs)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("padded", [False, True])
def test_logits_loss_and_every_gradient_equal_the_torch_model(name, padded):
    ours = build(name)
    theirs = build_torch(ours)
    mask, targets = None, TARGETS
    if padded:
        mask, targets = LEFT.astype(int), np.where(LEFT, TARGETS, -100)
    logits = ours(IDS, mask)
    loss, d_logits = cross_entropy(logits, targets)
    ours.backward(d_logits)
    out = theirs(torch.tensor(IDS), None if mask is None else torch.tensor(mask), targets=torch.tensor(targets))
    out.loss.backward()
    real = LEFT if padded else np.ones_like(LEFT)
    close(logits[real], out.logits[torch.tensor(real)], what="logits")
    assert loss == pytest.approx(out.loss.item(), rel=1e-10)
    assert ours.loss(IDS, targets, mask) == loss
    close_gradients(ours, theirs)


@pytest.mark.parametrize("name", ["gpt2", "llama, grouped, biased, tied"])
def test_ten_clipped_steps_of_adamw_equal_torch(name):
    ours = build(name)
    theirs = build_torch(ours)
    options = {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.3}
    optimizer = AdamW(ours.parameters(), learning_rate=1e-2, **options)
    torch_optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-2, **options)
    for step in range(10):
        ids = np.random.default_rng(step).integers(0, 31, (2, 9))
        loss, d_logits = cross_entropy(ours(ids[:, :-1]), ids[:, 1:])
        ours.zero_grad()
        ours.backward(d_logits)
        norm = clip_gradients(ours.parameters(), 0.7)
        optimizer.step()
        given = torch.tensor(ids)
        torch_optimizer.zero_grad()
        expected = theirs(given[:, :-1], targets=given[:, 1:]).loss
        expected.backward()
        torch_norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.7)
        torch_optimizer.step()
        assert loss == pytest.approx(expected.item(), rel=1e-9)
        assert norm == pytest.approx(torch_norm.item(), rel=1e-8)
    start, state = build(name).state_dict(), theirs.state_dict()
    for key, array in ours.state_dict().items():
        # A key's bias has no gradient but rounding noise, which Adam, dividing by its size, turns into steps.
        if not key.endswith("key.bias"):
            assert abs(array - start[key]).max() > 1e-2
            close(array, state[key], 1e-10, key)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_equal_finite_differences(name):
    model = build(name)
    _, d_logits = cross_entropy(model(IDS), TARGETS)
    model.backward(d_logits)
    arrays = {key: (parameter.data, parameter.grad) for key, parameter in model.named_parameters()}
    agrees_with_differences(lambda: model.loss(IDS, TARGETS), arrays)


# Dynamic scaling turns by the length of the longest row: cached keys keep the angles of their time, here as elsewhere.
STEADY = [name for name in CONFIGS if "dynamic" not in name]


@pytest.mark.parametrize("name", STEADY)
def test_decoding_in_pieces_with_the_cache_equals_one_pass(name):
    model = build(name)
    whole, cache = model(IDS), model.new_cache(3, 14)
    pieces = [model(IDS[:, start:end], cache=cache) for start, end in ((0, 6), (6, 7), (7, 8), (8, 12), (12, 14))]
    close(np.concatenate(pieces, 1), whole, 1e-12)
    assert cache.length == 14


@pytest.mark.parametrize("name", STEADY)
def test_a_left_padded_row_equals_the_row_alone(name):
    model = build(name)
    logits = model(IDS, LEFT)
    for row, real, found in zip(IDS, LEFT, logits, strict=True):
        close(found[real], model(row[real][None])[0], 1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_no_place_sees_what_comes_after_it(name):
    model = build(name)
    before, changed = model(IDS), IDS.copy()
    changed[:, 8:] = (changed[:, 8:] + 1) % 31
    after = model(changed)
    assert (before[:, :8] == after[:, :8]).all()
    assert (before[:, 8:] != after[:, 8:]).all()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_configs_have_the_fields_and_defaults_of_the_torch_configs(kind):
    ours, room = (GPT2Config, glassformer.models.gpt2) if kind == "gpt2" else (LlamaConfig, glassformer.models.llama)
    theirs = getattr(room, ours.__name__)

    def described(config: type) -> list[tuple]:
        return [(field.name, field.default, field.kw_only) for field in dataclasses.fields(config)]

    assert described(ours) == described(theirs)
    assert (ours().head_dim, ours().num_kv_heads) == (theirs().head_dim, theirs().num_kv_heads)


@pytest.mark.parametrize("name", ["gpt2", "llama, grouped, biased, tied"])
def test_gradients_add_up_until_they_are_forgotten(name):
    model = build(name)
    _, d_logits = cross_entropy(model(IDS), TARGETS)
    model.backward(d_logits)
    once = {key: parameter.grad.copy() for key, parameter in model.named_parameters()}
    model.backward(d_logits)
    for key, parameter in model.named_parameters():
        assert abs(parameter.grad - 2 * once[key]).max() < 1e-12, key
    model.zero_grad()
    assert not any(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_float32_stays_float32_everywhere(name):
    model = build(name).astype(np.float32)
    logits = model(IDS, LEFT)
    _, d_logits = cross_entropy(logits, TARGETS)
    model.backward(d_logits)
    optimizer = AdamW(model.parameters())
    clip_gradients(model.parameters(), 0.1)
    optimizer.step()
    held = [logits, d_logits, *optimizer.mean, *optimizer.square]
    held += [array for parameter in model.parameters() for array in (parameter.data, parameter.grad)]
    held += [model.new_cache(1).layers[0].key, model.hidden(IDS)]
    assert {array.dtype for array in held} == {np.dtype("f4")}


def test_dropout_repeats_with_a_new_model_and_is_off_in_evaluation():
    config = dataclasses.replace(CONFIGS["gpt2"], embedding_dropout=0.2, attention_dropout=0.2, residual_dropout=0.2)
    first, second = GPT2(config), GPT2(config)
    drawn = first(IDS)
    assert (drawn == second(IDS)).all()
    assert (drawn != first(IDS)).any()
    assert (first.eval()(IDS) == GPT2(dataclasses.replace(config, **DRY))(IDS)).all()


def test_gradients_with_dropout_equal_finite_differences():
    model = redraw(GPT2(dataclasses.replace(CONFIGS["gpt2"], embedding_dropout=0.2, attention_dropout=0.3,
                                            residual_dropout=0.2)))  # fmt: skip

    def again() -> np.ndarray:
        for _, module in model.named_modules():
            if hasattr(module, "_random"):
                module._random = np.random.default_rng(4)
        return model(IDS)

    _, d_logits = cross_entropy(again(), TARGETS)
    model.backward(d_logits)
    arrays = {key: (parameter.data, parameter.grad) for key, parameter in model.named_parameters()}
    agrees_with_differences(lambda: cross_entropy(again(), TARGETS)[0], arrays)


def test_the_initial_weights_follow_the_seed_and_shrink_on_residual_layers():
    config = GPT2Config(vocab_size=50, dim=128, num_layers=8, num_heads=4)
    model = GPT2(config, seed=3)
    assert (model.embed.weight.data == GPT2(config, seed=3).embed.weight.data).all()
    assert (model.embed.weight.data != GPT2(config, seed=4).embed.weight.data).any()
    assert model.blocks[0].feed_forward.up.weight.data.std() == pytest.approx(0.02, rel=0.02)
    assert model.blocks[7].feed_forward.down.weight.data.std() == pytest.approx(0.02 / 4, rel=0.02)
    assert model.blocks[0].attention.output.weight.data.std() == pytest.approx(0.02 / 4, rel=0.02)


def test_published_sizes_are_exact():
    assert GPT2(GPT2Config(), seed=None).num_parameters == 124_439_808


@pytest.mark.parametrize(("ids", "options", "error", "message"), [
    ([[1, 31]], {}, ValueError, "input_ids holds 31; the vocabulary has 31 ids, 0 to 30"),
    ([[1, -1]], {}, ValueError, "input_ids holds -1;"),
    ([1, 2], {}, ValueError, r"input_ids has shape \(2,\)"),
    ([[]], {}, ValueError, r"input_ids has shape \(1, 0\)"),
    ([[1.0]], {}, TypeError, "input_ids has dtype float64"),
    ([[1] * 25], {}, ValueError, "25 tokens do not fit into the model's 24 positions"),
    ([[1, 2]], {"attention_mask": np.ones((1, 3))}, ValueError, r"has shape \(1, 3\); expected \(1, 2\)"),
])  # fmt: skip
def test_wrong_input_is_refused(ids, options, error, message):
    with pytest.raises(error, match=message):
        build("gpt2")(np.array(ids), **options)


def test_the_attention_weights_can_be_looked_at():
    model = build("gpt2")
    model(IDS)
    weights = model.blocks[1].attention.weights
    assert weights.shape == (3, 4, 14, 14)
    close(weights.sum(-1), np.ones((3, 4, 14)))
    assert (np.triu(weights, 1) == 0).all()
