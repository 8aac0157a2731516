"""The pixel decoder of Mask2Former (Cheng et al. 2022, section 3.2.2): grids that know of each other, and of masks."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.table import Table
from glassformer.models.mask2former_config import NUM_STAGES, Mask2FormerConfig
from glassformer.parts import Dropout, FeedForward, LayerNorm, relu
from glassformer.parts.deformable_attention import DeformableAttention, Sizes, grid_centres
from glassformer.parts.sine_position import sine_grid

NUM_LEVELS, NUM_POINTS, NUM_GROUPS = NUM_STAGES - 1, 4, 32


def pixel_table(theirs: str, ours: str) -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    block, own = f"{theirs}encoder.layers.*.", f"{ours}blocks.*."
    return {
        f"{theirs}level_embed": f"{ours}level",
        f"{theirs}input_projections.*.{{0,1}}": f"{ours}project.*.{{0,1}}",
        f"{theirs}adapter_1.{{0,1}}": f"{ours}lateral.{{0,1}}",
        f"{theirs}layer_1.{{0,1}}": f"{ours}smooth.{{0,1}}",
        f"{theirs}mask_projection": f"{ours}mask",
        f"{block}self_attn.{{sampling_offsets,attention_weights,value_proj,output_proj}}":
            f"{own}attention.{{offsets,weights,value,output}}",
        f"{block}{{fc1,fc2}}": f"{own}feed_forward.{{up,down}}",
        f"{block}{{self_attn,final}}_layer_norm": f"{own}{{attention,feed_forward}}_norm",
    }  # fmt: skip


class PixelDecoderBlock(nn.Module):
    """norm(x + attention(x + where)), then norm(x + feed_forward(x)); where a place stands never joins its value."""

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.attention = DeformableAttention(dim, config.num_heads, num_levels=NUM_LEVELS, num_points=NUM_POINTS)
        self.attention_norm = LayerNorm(dim)
        self.feed_forward = FeedForward(dim, config.encoder_hidden_dim, activation=relu, dropout=config.dropout)
        self.feed_forward_norm = LayerNorm(dim)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "b s d"], where: Float[Tensor, "1 s d"], centres: Float[Tensor, "1 s l 2"], sizes: Sizes
    ) -> Float[Tensor, "b s d"]:
        x = self.attention_norm(x + self.dropout(self.attention(x + where, centres, x, sizes)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class PixelDecoder(nn.Module):
    """From the backbone's grids to three of one width, coarsest first, and a vector for each place of the finest grid.

    Deformable attention among all places of the three coarser grids; the finest of them is then enlarged to the
    backbone's finest, added to it, and smoothed. Convolutions are kept as such: (d, c, 1, 1) and (d, d, 3, 3).
    """

    def __init__(self, config: Mask2FormerConfig, widths: list[int]) -> None:
        super().__init__()
        dim = config.dim
        finest, *coarser = widths
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, dim, 1), nn.GroupNorm(NUM_GROUPS, dim)) for width in coarser[::-1]
        )
        self.level = nn.Parameter(torch.randn(NUM_LEVELS, dim))
        self.blocks = nn.ModuleList(PixelDecoderBlock(config) for _ in range(config.num_encoder_layers))
        self.lateral = nn.Sequential(nn.Conv2d(finest, dim, 1, bias=False), nn.GroupNorm(NUM_GROUPS, dim))
        self.smooth = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.GroupNorm(NUM_GROUPS, dim))
        self.mask = nn.Conv2d(dim, config.mask_dim, 1)
        for layer in (convolution for convolution in self.modules() if isinstance(convolution, nn.Conv2d)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(
        self, grids: list[Float[Tensor, "b _ _ _"]]
    ) -> tuple[list[Float[Tensor, "b d _ _"]], Float[Tensor, "b c y x"]]:
        """From grids (b, y, x, d) to three (b, d, y, x), coarsest first, and the masks' pixels at the finest size."""
        # In rows of memory by channel: the gradient of a group norm in bfloat16 is several times faster there on a CPU.
        finest, *coarser = (grid.permute(0, 3, 1, 2).contiguous() for grid in grids)
        levels = [project(grid) for project, grid in zip(self.project, coarser[::-1], strict=True)]
        sizes = [(level.shape[2], level.shape[3]) for level in levels]
        places = [sine_places(level) + embed for level, embed in zip(levels, self.level, strict=True)]
        where, centres = torch.cat(places, dim=1), grid_centres(sizes, levels[0])
        x = torch.cat([level.flatten(2).mT for level in levels], dim=1)
        for block in self.blocks:
            x = block(x, where, centres, sizes)
        parts = x.split([rows * columns for rows, columns in sizes], dim=1)
        levels = [part.mT.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]
        there = self.lateral(finest)
        up = F.interpolate(levels[-1], size=there.shape[2:], mode="bilinear")
        return levels, self.mask(self.smooth(there + up).relu())


def sine_places(grid: Float[Tensor, "b d y x"]) -> Float[Tensor, "1 s d"]:
    """The waves of each place of a grid (`sine_grid`), row by row."""
    everywhere = torch.ones(1, *grid.shape[2:], dtype=torch.bool, device=grid.device)
    return sine_grid(everywhere, grid.shape[1], grid.dtype).flatten(1, 2)
