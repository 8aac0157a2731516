"""Mixtral's second loss: in the output, in the loss and in the gradients, as transformers has it."""

from pathlib import Path

import torch
from properties import close, redraw

from glassformer.models.mixtral import Mixtral, MixtralConfig

SHAPE = dict(vocab_size=61, dim=32, num_layers=3, num_heads=4, num_kv_heads=2, hidden_dim=56, max_positions=48)
IDS = torch.arange(34).remainder(13).view(2, 17)


def test_balanced_loss_and_its_gradients_equal_transformers(tmp_path: Path) -> None:
    from transformers import MixtralForCausalLM

    ours = Mixtral(MixtralConfig(**SHAPE, num_experts=4, balanced=True, balance_weight=0.5))
    redraw(ours).save_pretrained(tmp_path)
    theirs = MixtralForCausalLM.from_pretrained(tmp_path)
    for present in (None, torch.arange(17)[None] >= torch.tensor([[0], [5]])):
        labels = IDS if present is None else IDS.masked_fill(~present, -100)
        positions = None if present is None else (present.long().cumsum(-1) - 1).clamp(min=0)
        expected = theirs(IDS, attention_mask=None if present is None else present.long(), labels=labels,
                          position_ids=positions)  # fmt: skip
        out = ours(IDS, present, labels)
        close(out.auxiliary_loss, expected.aux_loss, 1e-5, "auxiliary loss")
        close(out.loss, expected.loss, 1e-5, "loss")
        ours.zero_grad()
        theirs.zero_grad()
        out.loss.backward()
        expected.loss.backward()
        for block, layer in zip(ours.blocks, theirs.model.layers, strict=True):
            close(block.feed_forward.router.weight.grad, layer.mlp.gate.weight.grad, 1e-4, "router's gradient")


def test_without_it_the_output_has_the_plain_loss_alone() -> None:
    plain, balanced = (Mixtral(MixtralConfig(**SHAPE, balanced=balanced)) for balanced in (False, True))
    balanced.load_state_dict(plain.state_dict())
    out, more = plain(IDS, labels=IDS), balanced(IDS, labels=IDS)
    assert out.auxiliary_loss is None
    assert len(tuple(out)) == 2
    torch.testing.assert_close(more.loss, out.loss + 0.02 * more.auxiliary_loss)
    assert more["auxiliary_loss"] is more.auxiliary_loss
