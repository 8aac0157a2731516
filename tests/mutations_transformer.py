"""The classic mistakes of people who write the Transformer of 2017, Marian and BART; see `mutations.py`."""

from dataclasses import replace
from typing import Any

import torch
from mutations import Patch, mistake
from torch import Tensor

from glassformer.models import bart, bart_heads, transformer, transformer_blocks
from glassformer.models.transformer import TokenTransformer
from glassformer.models.transformer_blocks import DecoderBlock, EncoderBlock
from glassformer.ops.mask import Mask
from glassformer.parts import linear

# -- positions and embeddings ------------------------------------------------------------------------------------------


@mistake("sines and cosines alternate where the files have halves", "transformer")
def _(patch: Patch) -> None:
    def wrong(self: TokenTransformer, ids: Tensor, start: int = 0) -> Tensor:
        positions = self.position(torch.arange(start, start + ids.shape[1]))
        return self.dropout(self.embed(ids) * self.config.dim**0.5 + positions)

    patch.setattr(TokenTransformer, "embedded", wrong)


@mistake("embeddings are not scaled by the root of the width", "transformer")
def _(patch: Patch) -> None:
    right = TokenTransformer.__init__
    patch.setattr(TokenTransformer, "__init__", lambda self, config: right(self, replace(config, scaled=False)))


@mistake("positions are scaled with the embeddings", "transformer")
def _(patch: Patch) -> None:
    right = TokenTransformer.embedded

    def wrong(self: TokenTransformer, ids: Tensor, start: int = 0) -> Tensor:
        x, scale = self.embed(ids), self.config.dim**0.5
        return self.dropout((right(self, ids, start) - scale * x) * scale + scale * x)

    patch.setattr(TokenTransformer, "embedded", wrong)


@mistake(
    "the target's positions begin at 0 again after the cache",
    "transformer-unscaled",
    by="decoded_with_a_cache_equals_whole",
)
def _(patch: Patch) -> None:
    right = TokenTransformer.embedded
    patch.setattr(TokenTransformer, "embedded", lambda self, ids, start=0: right(self, ids))


@mistake("BART's positions without their offset of two", "bart")
def _(patch: Patch) -> None:
    right = bart.BARTInput.forward
    patch.setattr(bart.BARTInput, "forward", lambda self, x, start=0: right(self, x, start - bart.OFFSET))


@mistake("BART's embeddings normalised before positions are added", "bart")
def _(patch: Patch) -> None:
    def wrong(self: bart.BARTInput, x: Tensor, start: int = 0) -> Tensor:
        positions = torch.arange(start + bart.OFFSET, start + bart.OFFSET + x.shape[1])
        return self.dropout(self.norm(x) + self.position(positions))

    patch.setattr(bart.BARTInput, "forward", wrong)


@mistake("source and target share their positions", "bart-scaled")
def _(patch: Patch) -> None:
    right = bart.BART.decode

    def wrong(self: bart.BART, *args: Any, **options: Any) -> Tensor:
        patch.setattr(self, "decoder_input", self.encoder_input)
        return right(self, *args, **options)

    patch.setattr(bart.BART, "decode", wrong)


# -- blocks ------------------------------------------------------------------------------------------------------------


@mistake("the encoder normalises before each sub-layer, not after", "transformer")
def _(patch: Patch) -> None:
    right = EncoderBlock.__init__
    before = transformer_blocks.pre_norm
    patch.setattr(EncoderBlock, "__init__", lambda self, of: right(self, replace(of, residual=before)))


@mistake("the decoder normalises before each sub-layer, not after", "bart")
def _(patch: Patch) -> None:
    right = DecoderBlock.__init__
    before = transformer_blocks.pre_norm
    patch.setattr(DecoderBlock, "__init__", lambda self, of: right(self, replace(of, residual=before)))


@mistake("the residual is taken from behind the norm", "bart-scaled")
def _(patch: Patch) -> None:
    def wrong(x: Tensor, norm: Any, sublayer: Any) -> Tensor:
        return norm(x) + sublayer(norm(x))

    for block in (EncoderBlock, DecoderBlock):
        right = block.__init__
        patch.setattr(block, "__init__", lambda self, of, right=right: right(self, replace(of, residual=wrong)))


@mistake("cross-attention reads the decoder itself", "transformer")
def _(patch: Patch) -> None:
    right = DecoderBlock.forward

    def wrong(self: DecoderBlock, x: Tensor, context: Tensor, **options: Any) -> Tensor:
        return right(self, x, x, **options | {"context_mask": Mask(), "cache": None})

    patch.setattr(DecoderBlock, "forward", wrong)


@mistake("cross-attention has the norm of self-attention", "transformer-unscaled")
def _(patch: Patch) -> None:
    right = DecoderBlock.forward

    def wrong(self: DecoderBlock, *args: Any, **options: Any) -> Tensor:
        patch.setattr(self, "cross_attention_norm", self.attention_norm)
        return right(self, *args, **options)

    patch.setattr(DecoderBlock, "forward", wrong)


@mistake("the decoder sees the source's padding", "bart")
def _(patch: Patch) -> None:
    right = DecoderBlock.forward
    patch.setattr(DecoderBlock, "forward", lambda self, *a, **o: right(self, *a, **o | {"context_mask": Mask()}))


@mistake("the source's padding is all that its encoder sees", "transformer")
def _(patch: Patch) -> None:
    right = transformer.padding

    def wrong(attention_mask: Tensor | None) -> Mask:
        return right(None if attention_mask is None else attention_mask == 0)

    patch.setattr(transformer, "padding", wrong)


# -- heads -------------------------------------------------------------------------------------------------------------


@mistake("the bias of the logits forgotten", "transformer")
def _(patch: Patch) -> None:
    patch.setattr(linear.TiedLinear, "forward", lambda self, x: self.kernel(x, self.weight, None))


@mistake("BART's classifier reads the last place, not the text's end", "bart-classes")
def _(patch: Patch) -> None:
    def wrong(self: Any, input_ids: Tensor) -> Tensor:
        return torch.full(input_ids.shape[:1], input_ids.shape[1] - 1)

    patch.setattr(bart_heads.BARTForSequenceClassification, "ends", wrong)


@mistake("BART's classifier reads the encoder, not the decoder", "bart-classes")
def _(patch: Patch) -> None:
    patch.setattr(bart.BART, "decode", lambda self, ids, encoded, *masks, **options: encoded)


@mistake("BART's classifier hands the decoder the text unshifted", "bart-classes")
def _(patch: Patch) -> None:
    patch.setattr(bart.BART, "shift_right", lambda self, ids: ids)
