"""The classic mistakes of people who write encoders; see `mutations.py`."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mutations import Patch, mistake
from torch import Tensor

from glassformer.models import bert, bert_heads, encoder, heads, labels, modernbert, modernbert_heads, roberta
from glassformer.models.outputs import EncoderOutput
from glassformer.ops import mask
from glassformer.parts import norm

# -- embeddings and positions ------------------------------------------------------------------------------------------


@mistake("token types ignored", "bert")
def _(patch: Patch) -> None:
    right = bert.BERT.hidden
    patch.setattr(bert.BERT, "hidden", lambda self, ids, at, mask, types: right(self, ids, at, mask, None))


@mistake("no norm after the embeddings", "bert")
def _(patch: Patch) -> None:
    build = bert.BERT.__init__

    def wrong(self: bert.BERT, config: Any, **options: Any) -> None:
        build(self, config, **options)
        self.embed_norm.forward = lambda x: x  # type: ignore[method-assign]

    patch.setattr(bert.BERT, "__init__", wrong)


@mistake("positions count real tokens only, as a decoder's do", "bert")
def _(patch: Patch) -> None:
    right = encoder.Encoder.forward

    def wrong(self: Any, ids: Tensor, attention_mask: Tensor | None = None, *rest: Any, **options: Any) -> Any:
        if attention_mask is not None:
            self.positions = lambda _: ((attention_mask != 0).long().cumsum(1) - 1).clamp(min=0)
        return right(self, ids, attention_mask, *rest, **options)

    patch.setattr(encoder.Encoder, "forward", wrong)


@mistake("RoBERTa's positions start at 0", "roberta")
def _(patch: Patch) -> None:
    patch.setattr(roberta.RoBERTa, "positions", encoder.Encoder.positions)


@mistake("RoBERTa's positions start at the pad's id, one too early", "roberta-classification")
def _(patch: Patch) -> None:
    right = roberta.RoBERTa.positions
    patch.setattr(roberta.RoBERTa, "positions", lambda self, ids: right(self, ids) - 1)


# -- blocks ------------------------------------------------------------------------------------------------------------


@mistake("norm before the sub-layers, as in GPT-2", "bert")
def _(patch: Patch) -> None:
    def wrong(self: bert.BERTBlock, x: Tensor, *, mask: Any) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask=mask)
        return x + self.feed_forward(self.feed_forward_norm(x))

    patch.setattr(bert.BERTBlock, "forward", wrong)


@mistake("LayerNorm's ε that of other models", "bert-untied")
def _(patch: Patch) -> None:
    patch.setattr(norm.LayerNorm, "forward", lambda self, x: F.layer_norm(x, x.shape[-1:], self.weight, self.bias))


@mistake("GELU by its tanh form where it is exact", "bert")
def _(patch: Patch) -> None:
    patch.setitem(bert.ACTIVATIONS, "gelu", lambda x: F.gelu(x, approximate="tanh"))


@mistake("tokens see only what came before", "distilbert")
def _(patch: Patch) -> None:
    class CausalMask:
        padding, packed = mask.Mask.padding, mask.Mask.packed

        def __new__(cls) -> Any:
            return mask.Mask.causal()

    patch.setattr(encoder, "Mask", CausalMask)


@mistake("padding mask inverted", "bert-tagging")
def _(patch: Patch) -> None:
    patch.setattr(mask.Padding, "allows", lambda self, b, h, q, k: ~self.present[b, k])


@mistake("packed rows see each other", "bert-tagging")
def _(patch: Patch) -> None:
    patch.setattr(mask.Mask, "packed", classmethod(lambda cls, lengths, device=None: cls()))


@mistake("packed rows cut one place off", "bert")
def _(patch: Patch) -> None:
    right = mask.Mask.packed

    def shifted(cls: Any, lengths: Sequence[int], device: Any = None) -> Any:
        return right([lengths[0] - 1, *lengths[1:-1], lengths[-1] + 1], device)

    patch.setattr(mask.Mask, "packed", classmethod(shifted))


# -- ModernBERT --------------------------------------------------------------------------------------------------------


@mistake("local window one too narrow", "modernbert")
def _(patch: Patch) -> None:
    right = mask.Mask.window
    patch.setattr(mask.Mask, "window", classmethod(lambda cls, size: right(size - 1)))


@mistake("local window counted on each side, not in all", "modernbert-tagging")
def _(patch: Patch) -> None:
    right = mask.Mask.window
    patch.setattr(mask.Mask, "window", classmethod(lambda cls, size: right(2 * (size - 1) + 1)))


@mistake("bases of near and far rotations exchanged", "modernbert-classification")
def _(patch: Patch) -> None:
    right = modernbert.load_positions

    def wrong(attributes: dict[str, Any]) -> dict[str, Any]:
        bases = right(attributes)
        return {"rope_base": bases["local_rope_base"], "local_rope_base": bases["rope_base"]}

    compound = next(c for c in modernbert.CONFIG_TABLE.compounds if c.load is right)
    patch.setitem(compound.__dict__, "load", wrong)


@mistake("the last of each group of layers looks far, not the first", "modernbert")
def _(patch: Patch) -> None:
    right = modernbert.ModernBERT.hidden

    def wrong(self: modernbert.ModernBERT, *inputs: Any) -> Tensor:
        self.blocks = torch.nn.ModuleList([*self.blocks[-1:], *self.blocks[:-1]])
        try:
            return right(self, *inputs)
        finally:
            self.blocks = torch.nn.ModuleList([*self.blocks[1:], *self.blocks[:1]])

    patch.setattr(modernbert.ModernBERT, "hidden", wrong)


@mistake("gate and value of the feed-forward exchanged", "modernbert")
def _(patch: Patch) -> None:
    def wrong(self: Any, x: Tensor) -> Tensor:
        return self.down(self.gate(x) * self.activation(self.up(x)))

    patch.setattr(modernbert.GatedFeedForward, "forward", wrong)


@mistake("the first layer normalised once more before its attention", "modernbert-tagging")
def _(patch: Patch) -> None:
    right = modernbert.ModernBERTBlock.__init__

    def wrong(self: Any, config: Any, layer: int) -> None:
        right(self, config, layer)
        if layer == 0:
            self.attention_norm.forward = lambda x: F.layer_norm(x, x.shape[-1:], eps=config.norm_eps)

    patch.setattr(modernbert.ModernBERTBlock, "__init__", wrong)


@mistake("the mean takes padding in", "modernbert-classification")
def _(patch: Patch) -> None:
    patch.setattr(modernbert_heads, "mean", lambda hidden, attention_mask: hidden.mean(1))


# -- heads -------------------------------------------------------------------------------------------------------------


@mistake("pooler on the last token", "bert-classification")
def _(patch: Patch) -> None:
    right = encoder.Encoder.forward

    def wrong(self: Any, *inputs: Any, **options: Any) -> EncoderOutput:
        out = right(self, *inputs, **options)
        return EncoderOutput(out.last_hidden_state, self.pooler(out.last_hidden_state[:, -1]))

    patch.setattr(encoder.Encoder, "forward", wrong)


@mistake("pooler without its tanh", "bert-next-sentence")
def _(patch: Patch) -> None:
    patch.setattr(bert.BERTPooler, "forward", lambda self, first: self.dense(first))


@mistake("the tied head's own bias forgotten", "bert")
def _(patch: Patch) -> None:
    patch.setattr(bert_heads.TiedLinear, "forward", lambda self, x: self.kernel(x, self.weight, None))


@mistake("no norm before the vocabulary", "roberta")
def _(patch: Patch) -> None:
    patch.setattr(heads.HeadTransform, "forward", lambda self, x: self.activation(self.dense(x)))


@mistake("RoBERTa's masked LM with the activation of its blocks", "roberta")
def _(patch: Patch) -> None:
    patch.setattr(roberta, "gelu", F.relu)


@mistake("the answer's beginning and end exchanged", "bert-answers")
def _(patch: Patch) -> None:
    right = bert_heads.BERTForQuestionAnswering.__init__

    def wrong(self: Any, config: Any) -> None:
        right(self, config)
        forward = self.head.forward
        self.head.forward = lambda x: forward(x).flip(-1)

    patch.setattr(bert_heads.BERTForQuestionAnswering, "__init__", wrong)


@mistake("the losses of the answer's ends added, not averaged", "bert-answers")
def _(patch: Patch) -> None:
    right = heads.mean_cross_entropy
    patch.setattr(heads, "mean_cross_entropy", lambda logits, labels: 2 * right(logits, labels))


@mistake("labels of −100 learned as the last class", "bert-tagging")
def _(patch: Patch) -> None:
    right = labels.mean_cross_entropy

    def wrong(logits: Tensor, targets: Tensor) -> Tensor:
        return right(logits, torch.where(targets < 0, logits.shape[-1] - 1, targets))

    patch.setattr(heads, "mean_cross_entropy", wrong)


@mistake("masked tokens shifted, as a decoder's labels are", "distilbert")
def _(patch: Patch) -> None:
    right = heads.reference

    def wrong(hidden: Tensor, head: Any, targets: Tensor, **options: Any) -> Any:
        return right(hidden, head, F.pad(targets[:, 1:], (0, 1), value=-100), **options)

    patch.setattr(heads, "reference", wrong)


@mistake("only one of the two tasks learned", "bert-pretraining")
def _(patch: Patch) -> None:
    patch.setattr(bert_heads, "mean_cross_entropy", lambda logits, targets: 0.0 * logits.sum())
