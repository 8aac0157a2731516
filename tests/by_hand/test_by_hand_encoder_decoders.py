"""The Transformer and T5 by hand: equal to the torch models in logits, loss and every gradient, padded or not."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from mirrors import agrees_with_differences, close, close_gradients, redraw, twin

from glassformer.by_hand import T5, T5Config, TokenTransformer, TransformerConfig, cross_entropy
from glassformer.by_hand.models import transformer_blocks
from glassformer.by_hand.models.sequence_to_sequence import SequenceToSequenceModel
from glassformer.by_hand.ops.mask import Mask
from glassformer.by_hand.parts.norm import LayerNorm
from glassformer.models import t5, transformer
from glassformer.models import transformer_blocks as torch_blocks
from glassformer.ops.mask import Mask as TorchMask
from glassformer.parts import LayerNorm as TorchLayerNorm

SHAPE = dict(vocab_size=31, dim=24, num_encoder_layers=2, num_heads=4, hidden_dim=40)
BUCKETS = dict(head_dim=6, num_buckets=8, max_distance=9)
CONFIGS: dict[str, Any] = {
    "transformer": TransformerConfig(**SHAPE, num_decoder_layers=3, max_positions=20, dropout=0.0),
    "transformer, gelu, not scaled": TransformerConfig(
        **SHAPE, num_decoder_layers=1, max_positions=20, dropout=0.0, activation="gelu", scaled=False
    ),
    "t5": T5Config(**SHAPE, **BUCKETS, dropout=0.0),
    "t5 1.1": T5Config(
        **SHAPE, **BUCKETS, dropout=0.0, feed_forward="gated-gelu", tied=False, scaled=False, num_decoder_layers=3
    ),
    "umt5": T5Config(**SHAPE, **BUCKETS, dropout=0.0, feed_forward="gated-silu", bias_per_layer=True),
}
SOURCE = np.random.default_rng(0).integers(0, 31, (3, 13))
LABELS = np.random.default_rng(1).integers(0, 31, (3, 11))
LABELS[1, 7:] = -100
PRESENT = np.array([[1] * 13, [1] * 8 + [0] * 5, [0] * 4 + [1] * 9])


def build(name: str) -> SequenceToSequenceModel:
    config = CONFIGS[name]
    model = (T5 if isinstance(config, T5Config) else TokenTransformer)(config)
    redraw(model)
    return model


def build_torch(ours: SequenceToSequenceModel) -> Any:
    """The torch model with the same numbers. The Transformer's logits have a bias there that is set, not learned: 0."""
    room = t5 if isinstance(ours, T5) else transformer
    values = {field.name: getattr(ours.config, field.name) for field in fields(ours.config)}
    theirs = getattr(room, type(ours).__name__)(getattr(room, type(ours.config).__name__)(**values))
    if isinstance(ours, TokenTransformer):
        state = {name: torch.tensor(array) for name, array in ours.state_dict().items()}
        theirs.to(torch.float64).load_state_dict(state | {"head.bias": torch.zeros(31)})
        return theirs
    return twin(ours, theirs)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("padded", [False, True])
def test_logits_loss_and_every_gradient_equal_the_torch_model(name, padded):
    ours = build(name)
    theirs = build_torch(ours)
    mask = PRESENT if padded else None
    target_mask = np.where(LABELS == -100, 0, 1) if padded else None
    logits = ours(SOURCE, mask, ours.shift_right(LABELS), target_mask)
    loss, d_logits = cross_entropy(logits, LABELS)
    ours.backward(d_logits)
    given = [None if array is None else torch.tensor(array) for array in (mask, target_mask)]
    out = theirs(torch.tensor(SOURCE), given[0], labels=torch.tensor(LABELS), decoder_attention_mask=given[1])
    out.loss.backward()
    real = LABELS != -100
    close(logits[real], out.logits[torch.tensor(real)])
    assert loss == pytest.approx(out.loss.item(), rel=1e-10)
    close_gradients(ours, theirs)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_equal_finite_differences(name):
    model = build(name)
    for key, parameter in model.named_parameters():
        if isinstance(model, T5) and "norm" not in key:
            parameter.data *= 0.4  # T5 divides no score: softmax would be too steep for differences
    target = model.shift_right(LABELS)
    model.backward(cross_entropy(model(SOURCE, PRESENT, target), LABELS)[1])
    arrays = {key: (parameter.data, parameter.grad) for key, parameter in model.named_parameters()}
    agrees_with_differences(lambda: cross_entropy(model(SOURCE, PRESENT, target), LABELS)[0], arrays)


@pytest.mark.parametrize("name", ["transformer", "t5", "t5 1.1"])
def test_a_folder_is_read_as_the_torch_model_reads_it(name, tmp_path):
    ours = build(name)
    theirs = build_torch(ours).eval().float()
    theirs.save_pretrained(tmp_path)
    again = type(ours).from_pretrained(tmp_path)
    assert again.config == ours.config
    expected = theirs(torch.tensor(SOURCE), torch.tensor(PRESENT), torch.tensor(np.maximum(LABELS, 0)))
    close(again(SOURCE, PRESENT, np.maximum(LABELS, 0)), expected.logits, 1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_targets_are_those_of_the_torch_model(name):
    ours = build(name)
    theirs = build_torch(ours).eval()
    expected = theirs.generate(torch.tensor(SOURCE), torch.tensor(PRESENT), max_new_tokens=12)
    assert (ours.generate(SOURCE, PRESENT, max_new_tokens=12) == expected.numpy()).all()


@pytest.mark.parametrize("order", ["post_norm", "pre_norm"])
def test_stacks_equal_the_torch_stacks_with_the_norm_before_or_behind(order):
    def sublayers(room: Any) -> Any:
        return room.Sublayers(dim=24, num_heads=4, hidden_dim=40, bias=False, residual=getattr(room, order))

    pairs = []
    for kind in ("EncoderStack", "DecoderStack"):
        ours = getattr(transformer_blocks, kind)(2, sublayers(transformer_blocks), norm=LayerNorm(24))
        redraw(ours)
        theirs = getattr(torch_blocks, kind)(2, sublayers(torch_blocks), norm=TorchLayerNorm(24))
        pairs.append((ours, twin(ours, theirs)))
    (encoder, torch_encoder), (decoder, torch_decoder) = pairs
    x, y = np.random.default_rng(0).standard_normal((2, 3, 9, 24))
    given = torch.tensor(x, requires_grad=True)
    context, torch_context = encoder(x, mask=Mask()), torch_encoder(given, mask=TorchMask())
    out = decoder(y, context, mask=Mask.causal(), context_mask=Mask())
    expected = torch_decoder(torch.tensor(y), torch_context, mask=TorchMask.causal(), context_mask=TorchMask())
    close(out, expected)
    dy = np.random.default_rng(1).standard_normal(out.shape)
    dx = encoder.backward(decoder.backward(dy)[1])
    expected.backward(torch.tensor(dy))
    close(dx, given.grad)
    close_gradients(encoder, torch_encoder)
    close_gradients(decoder, torch_decoder)


def test_dropout_is_there_where_the_config_says_so():
    for model in (TokenTransformer(TransformerConfig(**SHAPE, num_decoder_layers=1)), T5(T5Config(**SHAPE, **BUCKETS))):
        target = model.shift_right(LABELS)
        assert not np.array_equal(model(SOURCE, None, target), model(SOURCE, None, target))
        model.eval()
        assert np.array_equal(model(SOURCE, None, target), model(SOURCE, None, target))


def test_bad_input_is_named():
    model = build("transformer")
    with pytest.raises(ValueError, match="decoder_input_ids holds 31; the vocabulary has 31 ids"):
        model(SOURCE, None, np.full((3, 2), 31))
    with pytest.raises(ValueError, match="21 tokens do not fit into the model's 20 positions"):
        model(np.zeros((3, 21), int), None, SOURCE)
    with pytest.raises(ValueError, match=r"attention_mask has shape \(3, 12\); expected \(3, 13\)"):
        model(SOURCE, PRESENT[:, 1:], SOURCE)
