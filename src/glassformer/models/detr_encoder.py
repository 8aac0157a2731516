"""What DETR and its kin do before their decoders: a backbone, and an encoder that reads its grid."""

from typing import Any, NamedTuple

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.table import Table
from glassformer.models.detection import backbone_table, present_places
from glassformer.models.resnet import ResNet
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Attention, Dropout, FeedForward, LayerNorm
from glassformer.parts.batch_norm import FrozenBatchNorm
from glassformer.parts.sine_position import sine_grid


def encoder_table(config: Any, theirs: str, ours: str) -> Table:
    """The names in Hugging Face's files of all before the decoder, and of what all decoders have."""
    block, own = f"{theirs}{{encoder,decoder}}.layers.*.", f"{ours}{{encoder,decoder}}.blocks.*."
    return {
        **backbone_table(config, f"{theirs}backbone.conv_encoder.model.", f"{ours}encoder.backbone."),
        f"{theirs}input_projection": f"{ours}encoder.project",
        f"{theirs}query_position_embeddings": f"{ours}query_position",
        f"{theirs}encoder.layers.*.self_attn.{{q,k,v,out}}_proj":
            f"{ours}encoder.blocks.*.attention.{{query,key,value,output}}",
        f"{block}{{self_attn,final}}_layer_norm": f"{own}{{attention,feed_forward}}_norm",
        f"{block}fc{{1,2}}": f"{own}feed_forward.{{up,down}}",
        f"{theirs}decoder.layers.*.encoder_attn_layer_norm": f"{ours}decoder.blocks.*.cross_attention_norm",
        f"{theirs}decoder.layernorm": f"{ours}decoder.norm",
    }  # fmt: skip


class EncoderMemory(NamedTuple):
    """What the encoder made of pictures: a vector for each place of the grid, where it is, and which may be read."""

    features: Float[Tensor, "b s d"]
    position: Float[Tensor, "#b s d"]
    mask: Mask


class DETREncoderBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x)); places join queries and keys, never values (A.3)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.attention = Attention(config.dim, config.num_heads, dropout=config.attention_dropout)
        self.attention_norm = LayerNorm(config.dim)
        self.feed_forward = feed_forward(config)
        self.feed_forward_norm = LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "b s d"], position: Float[Tensor, "#b s d"], mask: Mask
    ) -> Float[Tensor, "b s d"]:
        where = x + position
        x = self.attention_norm(x + self.dropout(self.attention(where, where, x, mask=mask)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


def feed_forward(config: Any) -> FeedForward:
    """The feed-forward layer of a block."""
    activation = ACTIVATIONS[config.activation]
    return FeedForward(config.dim, config.hidden_dim, activation=activation, dropout=config.hidden_dropout)


class DETREncoder(nn.Module):
    """The backbone's last grid, made as wide as the model, read by the encoder's blocks (section 3.2)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.backbone = ResNet(config.backbone, norm=FrozenBatchNorm)
        self.project = nn.Conv2d(config.backbone.dims[-1], config.dim, 1)
        self.blocks = nn.ModuleList(DETREncoderBlock(config) for _ in range(config.num_encoder_layers))

    def forward(self, pixel_values: Tensor, pixel_mask: Shaped[Tensor, "b y x"] | None) -> EncoderMemory:
        self.backbone.check(pixel_values)
        grid = self.project(self.backbone.grids(pixel_values.to(self.project.weight.dtype))[-1])
        present = present_places(pixel_mask, pixel_values, *grid.shape[2:])
        position = sine_grid(present, grid.shape[1], grid.dtype).flatten(1, 2)
        mask = Mask() if pixel_mask is None else Mask.padding(present.flatten(1))
        x = grid.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, position, mask)
        return EncoderMemory(x, position, mask)


def draw(body: Any) -> None:
    """Matrices of the transformer by Glorot & Bengio's rule, queries from N(0, 1) (appendix A.4)."""
    for part in (body.encoder.blocks, body.decoder):
        for parameter in part.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
    nn.init.normal_(body.query_position.weight)
