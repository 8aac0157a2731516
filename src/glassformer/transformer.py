"""The Transformer (Vaswani et al. 2017) over vectors, built and called as `torch.nn.Transformer` is.

>>> from glassformer.transformer import Transformer
>>> model = Transformer(d_model=512, nhead=8)
>>> model(torch.rand(10, 32, 512), torch.rand(20, 32, 512)).shape  # (time, batch, width)
torch.Size([20, 32, 512])

Its blocks are those of `glassformer.models.transformer`. With torch's weights it gives torch's values and gradients:
`model.load_state_dict(torch_model.state_dict())`, and back by `torch_model.load_state_dict(model.torch_state_dict())`.
"""

from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.table import Split, Table, load, save
from glassformer.foundation.suggest import did_you_mean
from glassformer.models.encoder import looks
from glassformer.models.transformer_blocks import DecoderStack, EncoderStack, Sublayers, post_norm, pre_norm
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Attention, FeedForward

TABLE: Table = {  # torch's names of parameters
    "{encoder,decoder}.layers.*.self_attn.out_proj": "{encoder,decoder}.blocks.*.attention.output",
    "decoder.layers.*.multihead_attn.out_proj": "decoder.blocks.*.cross_attention.output",
    **{
        f"{theirs}.in_proj_{leaf}": Split(f"{ours}.{{query,key,value}}.{leaf}")
        for leaf in ("weight", "bias")
        for theirs, ours in (
            ("encoder.layers.*.self_attn", "encoder.blocks.*.attention"),
            ("decoder.layers.*.self_attn", "decoder.blocks.*.attention"),
            ("decoder.layers.*.multihead_attn", "decoder.blocks.*.cross_attention"),
        )
    },
    "{encoder,decoder}.layers.*.linear{1,2}": "{encoder,decoder}.blocks.*.feed_forward.{up,down}",
    "encoder.layers.*.norm{1,2}": "encoder.blocks.*.{attention,feed_forward}_norm",
    "decoder.layers.*.norm{1,2,3}": "decoder.blocks.*.{attention,cross_attention,feed_forward}_norm",
    "{encoder,decoder}.norm": "{encoder,decoder}.norm",
}


class Placement(TypedDict, total=False):
    """Where the parameters live, and as what."""

    device: torch.device | str | None
    dtype: torch.dtype | None


class Transformer(nn.Module):
    """An encoder and a decoder of vectors: `decoder(tgt, encoder(src))`, each with a norm at its end.

    Args:
        d_model: width of the vectors.
        nhead: heads of each attention.
        num_encoder_layers, num_decoder_layers: blocks of each half.
        dim_feedforward: width inside the feed-forward layers.
        dropout: of attention weights, inside the feed-forward layers, and after each sub-layer.
        activation: "relu", "gelu" (or another of `glassformer.parts.ACTIVATIONS`), or a function of a tensor.
        layer_norm_eps: ε of the norms.
        batch_first: tensors are (batch, time, width) instead of (time, batch, width).
        norm_first: each sub-layer reads what is normalised, instead of the sum being normalised.
        bias: linear layers and norms have one.
        device, dtype: of the parameters.

    Beyond the activation, arguments go by name. Where torch's halves are called, `torch_model.encoder(src)`, call
    `encode` and `decode`; where torch takes a `custom_encoder`, set `model.encoder` to a module that is called as
    `EncoderStack` is. Raises ValueError and TypeError for what does not fit.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        *,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        **placement: Unpack[Placement],
    ) -> None:
        super().__init__()
        for name in placement:
            if name in ("custom_encoder", "custom_decoder"):
                half = name.removeprefix("custom_")
                raise TypeError(f"Transformer takes no {name!r}; set model.{half}, called as {half.title()}Stack is")
            if name not in Placement.__annotations__:
                raise TypeError(f"Transformer takes no {name!r}{did_you_mean(name, Placement.__annotations__)}")
        for name, size, least in (("d_model", d_model, 1), ("nhead", nhead, 1), ("dim_feedforward", dim_feedforward, 1),
                                  ("num_encoder_layers", num_encoder_layers, 0),
                                  ("num_decoder_layers", num_decoder_layers, 0)):  # fmt: skip
            if not isinstance(size, int) or size < least:
                raise ValueError(f"{name}={size!r} is no size; expected a whole number, {least} or more")
        if isinstance(activation, str) and activation not in ACTIVATIONS:
            raise ValueError(f"there is no activation {activation!r}{did_you_mean(activation, ACTIVATIONS)}")
        sublayers = Sublayers(
            dim=d_model, num_heads=nhead, hidden_dim=dim_feedforward, norm_eps=layer_norm_eps, bias=bias,
            activation=ACTIVATIONS[activation] if isinstance(activation, str) else activation,
            dropout=dropout, attention_dropout=dropout, hidden_dropout=dropout,
            residual=pre_norm if norm_first else post_norm,
        )  # fmt: skip
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self.encoder: nn.Module = EncoderStack(num_encoder_layers, sublayers, norm=sublayers.norm())
        self.decoder: nn.Module = DecoderStack(num_decoder_layers, sublayers, norm=sublayers.norm())
        self.reset_parameters()
        self.to(**placement)
        self.register_load_state_dict_pre_hook(_translated)

    def reset_parameters(self) -> None:
        """Draw the matrices from Glorot's uniform distribution, queries, keys and values as the one that torch keeps.

        The biases of the feed-forward layers are uniform within ±1/√(width that goes in), the others 0.
        """
        for module in self.modules():
            if isinstance(module, Attention):
                for layer in (module.query, module.key, module.value):
                    nn.init.xavier_uniform_(layer.weight, gain=0.5**0.5)  # d in, 3 d out
                nn.init.xavier_uniform_(module.output.weight)
            elif isinstance(module, FeedForward):
                for layer in (module.up, module.down):
                    nn.init.xavier_uniform_(layer.weight)
                    if layer.bias is not None:
                        bound = layer.weight.shape[1] ** -0.5
                        nn.init.uniform_(layer.bias, -bound, bound)

    def forward(
        self,
        src: Float[Tensor, "*source d"],
        tgt: Float[Tensor, "*target d"],
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Float[Tensor, "*target d"]:
        """The decoder's output, of the shape of `tgt`.

        Masks are torch's: boolean, True where a key is hidden, or floats that are added to the scores, −inf to hide.

        Args:
            src: (s, b, d) the source; (b, s, d) where `batch_first`; (s, d) without a batch.
            tgt: (t, b, d) the target, likewise.
            src_mask: (s, s) or (b · nhead, s, s): what each place of the source sees of it.
            tgt_mask: (t, t) or (b · nhead, t, t); `generate_square_subsequent_mask(t)` hides what is to come.
            memory_mask: (t, s) or (b · nhead, t, s): what each place of the target sees of the source.
            src_key_padding_mask: (b, s), or (s,) without a batch: padding of the source, for itself;
                memory_key_padding_mask: the same, for the target.
            tgt_key_padding_mask: (b, t): padding of the target.
            src_is_causal, tgt_is_causal, memory_is_causal: the mask beside it is the causal one, which need not be
                looked at then; without a mask, it is put there (torch asks for the mask too).

        A query from which everything is hidden gets 0 from its attention, gradients 0. (So does torch's class today;
        its `nn.MultiheadAttention`, asked for the weights, gives NaN.)

        Raises:
            ValueError, TypeError: for shapes and dtypes that do not fit, and for a mask that is said to be causal and
                is not (where looking costs nothing).
        """
        if src.ndim != tgt.ndim or self._batched("src", src).shape[0] != self._batched("tgt", tgt).shape[0]:
            raise ValueError(f"src {tuple(src.shape)} and tgt {tuple(tgt.shape)} are not of the same batch")
        memory = self.encode(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decode(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask,
            tgt_is_causal, memory_is_causal,
        )  # fmt: skip

    def encode(
        self,
        src: Float[Tensor, "*source d"],
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
    ) -> Float[Tensor, "*source d"]:
        """The memory, of the shape of `src`: what `torch_model.encoder(src, ...)` is. Arguments as for `forward`."""
        x = self._batched("src", src)
        b, s, _ = x.shape
        mask, bias = _lowered("src", src_mask, src_key_padding_mask, src_is_causal, (b, self.nhead, s, s), x)
        return self._as_given(self.encoder(x, mask=mask, score_bias=bias), src)

    def decode(
        self,
        tgt: Float[Tensor, "*target d"],
        memory: Float[Tensor, "*source d"],
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Float[Tensor, "*target d"]:
        """The output for a memory: what `torch_model.decoder(tgt, memory, ...)` is. Arguments as for `forward`.

        For a target that grows word by word the source is encoded once: `memory = model.encode(src)`.
        """
        x, context = self._batched("tgt", tgt), self._batched("memory", memory)
        if x.shape[0] != context.shape[0] or tgt.ndim != memory.ndim:
            raise ValueError(f"tgt {tuple(tgt.shape)} and memory {tuple(memory.shape)} are not of the same batch")
        (b, t, _), s, h = x.shape, context.shape[1], self.nhead
        mask, bias = _lowered("tgt", tgt_mask, tgt_key_padding_mask, tgt_is_causal, (b, h, t, t), x)
        seen, added = _lowered("memory", memory_mask, memory_key_padding_mask, memory_is_causal, (b, h, t, s), x)
        out = self.decoder(x, context, mask=mask, score_bias=bias, context_mask=seen, context_bias=added)
        return self._as_given(out, tgt)

    @staticmethod
    def generate_square_subsequent_mask(
        sz: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "t t"]:
        """(sz, sz): −inf above the diagonal, 0 elsewhere."""
        return torch.full((sz, sz), -torch.inf, device=device, dtype=dtype).triu(1)

    def torch_state_dict(self) -> dict[str, Tensor]:
        """The parameters under torch's names: `torch.nn.Transformer(...).load_state_dict(model.torch_state_dict())`."""
        return dict(save(self.state_dict(), TABLE))

    def _batched(self, name: str, x: Tensor) -> Float[Tensor, "b t d"]:
        if x.ndim not in (2, 3) or x.shape[-1] != self.d_model:
            order = "(batch, time, width)" if self.batch_first else "(time, batch, width)"
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected {order}, or (time, width), with width {self.d_model}"
            )
        if 0 in x.shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected at least one vector")
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"{name} has dtype {x.dtype}; expected {dtype}, as the weights have")
        if x.ndim == 2:
            return x[None]
        return x if self.batch_first else x.transpose(0, 1)

    def _as_given(self, out: Float[Tensor, "b t d"], like: Tensor) -> Float[Tensor, "*given d"]:
        """Without a batch, or with time first, where `like` came so."""
        if like.ndim == 2:
            return out[0]
        return out if self.batch_first else out.transpose(0, 1)


def _lowered(
    name: str,
    mask: Tensor | None,
    key_padding: Tensor | None,
    is_causal: bool | None,
    sizes: tuple[int, int, int, int],
    like: Tensor,
) -> tuple[Mask, Tensor | None]:
    """Torch's two masks as what is visible and what is added to the scores, for (batch, heads, queries, keys)."""
    b, h, t, s = sizes
    past = torch.ones(1, 1, t, s, dtype=torch.bool, device=like.device).tril()
    causal = Mask.causal() if t == s else Mask.dense(past)
    seen, added = causal if is_causal else Mask(), []
    if mask is not None:
        rows = 1 if mask.ndim == 2 else b
        mask = _shaped(f"{name}_mask", mask, ((t, s), (b * h, t, s)), (rows, -1, t, s))
        visible, bias = _read(mask, like)
        is_past = looks(like) and bias is None and torch.equal(visible, past)
        if is_causal and looks(like) and not is_past:
            raise ValueError(f"{name}_mask is not the causal mask that {name}_is_causal=True says it is")
        seen = causal if is_causal or is_past else Mask.dense(visible)
        added += [] if is_causal or bias is None else [bias]
    if key_padding is not None:
        shapes = ((b, s), (s,)) if b == 1 else ((b, s),)
        visible, bias = _read(_shaped(f"{name}_key_padding_mask", key_padding, shapes, (b, 1, 1, s)), like)
        seen = seen & Mask.padding(visible[:, 0, 0])
        added += [] if bias is None else [bias.expand(b, 1, t, s)]
    return seen, sum(added[1:], added[0]) if added else None


def _shaped(name: str, mask: Tensor, allowed: tuple[tuple[int, ...], ...], shape: tuple[int, ...]) -> Tensor:
    """A mask of torch's as (b, h, t, s), each of them or 1. Raises ValueError and TypeError for what is no mask."""
    if tuple(mask.shape) not in allowed:
        expected = " or ".join(map(str, dict.fromkeys(allowed)))
        raise ValueError(f"{name} has shape {tuple(mask.shape)}; expected {expected}")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(f"{name} has dtype {mask.dtype}; expected torch.bool, True where hidden, or floats to add")
    return mask.reshape(shape)


def _read(mask: Tensor, like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Where a mask of torch's shows a key, and what it adds to the score there (None: nothing)."""
    if mask.dtype == torch.bool:
        return ~mask, None
    visible = mask != -torch.inf
    bias = mask.masked_fill(~visible, 0.0).to(like.dtype)
    return visible, None if looks(like) and not mask.requires_grad and not bias.any() else bias


def _translated(module: Transformer, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Torch's names in a state dict become ours, in place; the names of the norms at the end are the same."""
    halves = [name for name in ("encoder", "decoder") if hasattr(getattr(module, name), "blocks")]
    starts = tuple(f"{prefix}{name}.layers." for name in halves)
    theirs = {name.removeprefix(prefix): state.pop(name) for name in list(state) if name.startswith(starts)}
    state.update({prefix + name: tensor for name, tensor in load(theirs, TABLE).items()})
