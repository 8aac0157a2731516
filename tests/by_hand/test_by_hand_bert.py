"""BERT by hand: equal to the torch models in outputs, loss and every gradient, padded or not; read from folders."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from mirrors import agrees_with_differences, close, close_gradients, draw, redraw, twin

from glassformer.by_hand import BERT, BERTConfig, BERTForMaskedLM, BERTForSequenceClassification, cross_entropy
from glassformer.by_hand.models.pretrained import Pretrained
from glassformer.models import bert, bert_heads

SHAPE = dict(vocab_size=31, max_positions=24, dim=24, num_layers=2, num_heads=4, hidden_dim=40)
DRY = dict(dropout=0.0, attention_dropout=0.0)
CONFIGS = {
    "plain": BERTConfig(**SHAPE, **DRY),
    "three labels, untied, other gelu": BERTConfig(
        **SHAPE, **DRY, labels=("a", "b", "c"), tied=False, activation="gelu_tanh", norm_eps=0.1, num_segments=3
    ),
}
IDS = np.random.default_rng(0).integers(0, 31, (3, 14))
SEGMENTS = (np.arange(14) >= np.array([[4], [9], [14]])).astype(int)
PRESENT = np.array([[1] * 14, [1] * 9 + [0] * 5, [0] * 4 + [1] * 10])
HEADS = [BERTForMaskedLM, BERTForSequenceClassification]


def build(kind: type, name: str) -> Pretrained:
    model = kind(CONFIGS[name])
    redraw(model)
    return model


def build_torch(ours: Pretrained) -> Any:
    """The torch model with the same numbers."""
    config = bert.BERTConfig(**{field.name: getattr(ours.config, field.name) for field in fields(ours.config)})
    room = bert if isinstance(ours, BERT) else bert_heads
    return twin(ours, getattr(room, type(ours).__name__)(config))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("padded", [False, True])
def test_both_outputs_and_every_gradient_equal_the_torch_encoder(name, padded):
    ours = build(BERT, name)
    theirs = build_torch(ours)
    mask = PRESENT if padded else None
    hidden, pooled = ours(IDS, mask, SEGMENTS)
    out = theirs(torch.tensor(IDS), None if mask is None else torch.tensor(mask), torch.tensor(SEGMENTS))
    real = PRESENT.astype(bool) if padded else np.ones_like(IDS, bool)
    close(hidden[real], out.last_hidden_state[torch.tensor(real)])
    close(pooled, out.pooler_output)
    dx, d_pooled = draw(*hidden.shape) * real[..., None], draw(*pooled.shape)
    ours.backward(dx.copy(), d_pooled)
    loss = (out.last_hidden_state * torch.tensor(dx)).sum() + (out.pooler_output * torch.tensor(d_pooled)).sum()
    loss.backward()
    close_gradients(ours, theirs)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("padded", [False, True])
def test_logits_loss_and_every_gradient_equal_the_torch_head(kind, name, padded):
    ours = build(kind, name)
    theirs = build_torch(ours)
    if kind is BERTForMaskedLM:
        labels = np.where((np.random.default_rng(2).random(IDS.shape) < 0.3) & (PRESENT == 1), IDS, -100)
    else:
        labels = np.array([0, 1, -100])
    mask = PRESENT if padded else None
    logits = ours(IDS, mask, SEGMENTS)
    loss, d_logits = cross_entropy(logits, labels)
    ours.backward(d_logits)
    given = None if mask is None else torch.tensor(mask)
    out = theirs(torch.tensor(IDS), given, labels=torch.tensor(labels), token_type_ids=torch.tensor(SEGMENTS))
    out.loss.backward()
    real = PRESENT.astype(bool) if padded and logits.ndim == 3 else slice(None)
    close(logits[real], out.logits.detach().numpy()[real])
    assert loss == pytest.approx(out.loss.item(), rel=1e-10)
    close_gradients(ours, theirs)


@pytest.mark.parametrize("kind", HEADS, ids=lambda kind: kind.__name__)
def test_gradients_equal_finite_differences(kind):
    model = build(kind, "plain")
    labels = IDS if kind is BERTForMaskedLM else np.array([1, 0, 1])
    model.backward(cross_entropy(model(IDS, PRESENT), labels)[1])
    arrays = {key: (parameter.data, parameter.grad) for key, parameter in model.named_parameters()}
    agrees_with_differences(lambda: cross_entropy(model(IDS, PRESENT), labels)[0], arrays)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", [BERT, *HEADS], ids=lambda kind: kind.__name__)
def test_a_folder_is_read_as_the_torch_model_reads_it(kind, name, tmp_path):
    theirs = build_torch(build(kind, name)).eval().float()
    theirs.save_pretrained(tmp_path)
    ours = kind.from_pretrained(tmp_path)
    out = theirs(torch.tensor(IDS), torch.tensor(PRESENT))
    got = ours(IDS, PRESENT)
    expected = out.pooler_output if kind is BERT else out.logits
    got, real = (got[1], slice(None)) if kind is BERT else (got, PRESENT == 1 if got.ndim == 3 else slice(None))
    close(got[real], expected.detach().numpy()[real], 1e-5)


def test_dropout_is_there_where_the_config_says_so():
    model = BERTForSequenceClassification(BERTConfig(**SHAPE, dropout=0.5))
    assert not np.array_equal(model(IDS), model(IDS))
    model.eval()
    assert np.array_equal(model(IDS), model(IDS))


def test_bad_input_is_named():
    model = build(BERT, "plain")
    with pytest.raises(ValueError, match="input_ids holds 31; the vocabulary has 31 ids"):
        model(np.full((1, 3), 31))
    with pytest.raises(ValueError, match="token_type_ids holds 2; the vocabulary has 2 ids"):
        model(IDS, None, np.full_like(IDS, 2))
    with pytest.raises(ValueError, match="25 tokens do not fit into the model's 24 positions"):
        model(np.zeros((1, 25), int))
    with pytest.raises(ValueError, match=r"attention_mask has shape \(3, 13\); expected \(3, 14\)"):
        model(IDS, PRESENT[:, 1:])
