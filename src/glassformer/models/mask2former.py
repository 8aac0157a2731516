"""Mask2Former (Cheng et al. 2022): queries that each ask for a mask, and read only where they have found it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import DROP, Split, Table
from glassformer.models.detection import Perceptron
from glassformer.models.mask2former_config import Mask2FormerConfig, config_table
from glassformer.models.mask2former_pixels import NUM_LEVELS, PixelDecoder, pixel_table, sine_places
from glassformer.models.mask_loss import MaskLoss, MaskTargets
from glassformer.models.outputs import UniversalSegmentationOutput
from glassformer.models.swin_backbone import SwinBackbone, backbone_table
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Attention, Dropout, Embedding, FeedForward, LayerNorm, Linear

Prediction = tuple[Float[Tensor, "b q d"], Float[Tensor, "b q y x"]]


def body_table(theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    top, block, own = (
        f"{theirs}transformer_module.",
        f"{theirs}transformer_module.decoder.layers.*.",
        f"{ours}blocks.*.",
    )
    packed = f"{own}cross_attention.{{query,key,value}}"
    return {
        **backbone_table(f"{theirs}pixel_level_module.encoder.", f"{ours}backbone."),
        **pixel_table(f"{theirs}pixel_level_module.decoder.", f"{ours}pixels."),
        f"{top}{{queries_features,queries_embedder,level_embed}}": f"{ours}{{query,query_position,level}}",
        f"{top}decoder.layernorm": f"{ours}norm",
        f"{top}decoder.mask_predictor.mask_embedder.*.0": f"{ours}mask.layers.*",
        f"{block}cross_attn.in_proj_weight": Split(f"{packed}.weight"),
        f"{block}cross_attn.in_proj_bias": Split(f"{packed}.bias"),
        f"{block}cross_attn.out_proj": f"{own}cross_attention.output",
        f"{block}self_attn.{{q,k,v,out}}_proj": f"{own}attention.{{query,key,value,output}}",
        f"{block}{{fc1,fc2}}": f"{own}feed_forward.{{up,down}}",
        f"{block}{{cross_attn,self_attn,final}}_layer_norm": f"{own}{{cross_attention,attention,feed_forward}}_norm",
    }


HEAD_TABLE: Table = {**body_table("model.", "body."), "class_predictor": "head", "criterion.empty_weight": DROP}


class Mask2FormerBlock(nn.Module):
    """Masked attention to the pixels first, then self-attention of the queries, then feed-forward (section 3.2.3).

    Each is norm(x + sublayer(x)); where queries and places stand joins queries and keys, never values.
    """

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        dim, heads, dropout = config.dim, config.num_heads, config.dropout
        self.cross_attention = Attention(dim, heads, dropout=dropout)
        self.cross_attention_norm = LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout=dropout)
        self.attention_norm = LayerNorm(dim)
        self.feed_forward = FeedForward(
            dim, config.hidden_dim, activation=ACTIVATIONS[config.activation], dropout=dropout
        )
        self.feed_forward_norm = LayerNorm(dim)
        self.dropout = Dropout(dropout)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        x: Float[Tensor, "b q d"],
        position: Float[Tensor, "1 q d"],
        pixels: Float[Tensor, "b s d"],
        places: Float[Tensor, "1 s d"],
        visible: Bool[Tensor, "b q s"],
    ) -> Float[Tensor, "b q d"]:
        mask = Mask.dense(visible[:, None])
        read = self.cross_attention(x + position, pixels + places, pixels, mask=mask)
        x = self.cross_attention_norm(x + self.dropout(read))
        where = x + position
        x = self.attention_norm(x + self.dropout(self.attention(where, where, x)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class Mask2Former(Pretrained, nn.Module):
    """Backbone, pixel decoder, and the decoder whose queries become masks; classes are named by the head on it."""

    config_table = config_table("Mask2FormerModel")
    table = body_table()

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = SwinBackbone(config.backbone)
        self.pixels = PixelDecoder(config, self.backbone.widths)
        self.query = Embedding(config.num_queries, config.dim)
        self.query_position = Embedding(config.num_queries, config.dim)
        self.level = Embedding(NUM_LEVELS, config.dim)
        self.blocks = nn.ModuleList(Mask2FormerBlock(config) for _ in range(config.num_layers))
        self.norm = LayerNorm(config.dim)
        self.mask = Perceptron(config.dim, config.mask_dim, 3)
        for embedding in (self.query, self.query_position, self.level):
            nn.init.normal_(embedding.weight)
        for layer in self.mask.layers:
            nn.init.xavier_uniform_(layer.weight)  # pyright: ignore

    def forward(self, pixel_values: Tensor) -> UniversalSegmentationOutput:
        """The queries' last hidden states (b, q, d), and the logits of their masks (b, q, y', x').

        Raises what `ImageEncoder` raises for pictures.
        """
        grids, found = self.predictions(pixel_values)
        x, masks = found[-1]
        return UniversalSegmentationOutput(None, None, masks, x, grids)

    def predictions(self, pixel_values: Tensor) -> tuple[tuple[Tensor, ...], list[Prediction]]:
        """The grids that queries read, coarsest first; and of the queries as they begin and after each block their
        states, and their masks on the finest grid."""
        self.backbone.check(pixel_values)
        grids = self.backbone.feature_maps(pixel_values.to(self.level.weight.dtype))
        levels, pixels = self.pixels(grids)
        memory = [level.flatten(2).mT + embed for level, embed in zip(levels, self.level.weight, strict=True)]
        places = [sine_places(level) for level in levels]
        x, position = self.query.weight.expand(pixel_values.shape[0], -1, -1), self.query_position.weight[None]
        found = [(x, self.masks(x, pixels))]
        for i, block in enumerate(self.blocks):
            level = i % NUM_LEVELS
            visible = seen(found[-1][1], (levels[level].shape[2], levels[level].shape[3]))
            x = block(x, position, memory[level], places[level], visible)
            found.append((x, self.masks(x, pixels)))
        return tuple(levels), found

    def masks(self, x: Float[Tensor, "b q d"], pixels: Float[Tensor, "b c y x"]) -> Float[Tensor, "b q y x"]:
        """A query's mask is where the pixels' vectors agree with the one that it asks with."""
        return torch.einsum("b q c, b c y x -> b q y x", self.mask(self.norm(x)), pixels)

    @property
    def num_parameters(self) -> int:
        """Parameters of backbone and both decoders."""
        return sum(parameter.numel() for parameter in self.parameters())


@torch.no_grad()
def seen(masks: Float[Tensor, "b q y x"], size: tuple[int, int]) -> Bool[Tensor, "b q s"]:
    """Which places of a grid each query reads: those inside the mask that it has found; all where there are none."""
    inside = F.interpolate(masks, size=size, mode="bilinear").sigmoid().flatten(2) >= 0.5
    return inside | ~inside.any(-1, keepdim=True)


class Mask2FormerForUniversalSegmentation(Pretrained, nn.Module):
    """A class for each query, or none: things, stuff and both together are said in the same way (section 3.1)."""

    config_table = config_table("Mask2FormerForUniversalSegmentation")
    table = HEAD_TABLE

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        self.config = config
        self.body = Mask2Former(config)
        self.head = Linear(config.dim, config.num_classes + 1)
        self.criterion = MaskLoss(
            class_weight=config.class_weight,
            mask_weight=config.mask_weight,
            dice_weight=config.dice_weight,
            nothing_weight=config.nothing_weight,
            num_points=config.num_points,
            oversample_ratio=config.oversample_ratio,
            importance_ratio=config.importance_ratio,
        )

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        mask_labels: Sequence[Tensor] | None = None,
        class_labels: Sequence[Tensor] | None = None,
    ) -> UniversalSegmentationOutput:
        """Logits of classes (b, q, n + 1), the last that of "nothing", and of masks (b, q, y', x').

        Args:
            pixel_values: (b, c, y, x), normalised as the model was trained.
            pixel_mask: (b, y, x), as an image processor gives it. As in the released code, padding is read like any
                other pixel; the mask must only fit.
            mask_labels: for each picture (m, y, x), 1 where an object is; all of one size.
            class_labels: for each picture (m,), the objects' classes. With both, the loss, summed over all layers.

        Raises:
            ValueError, TypeError: for pictures as for any image encoder, for labels as `MaskTargets.of`, for one kind
            of labels without the other, and for a mask of another shape than the pictures.
        """
        if pixel_mask is not None and pixel_mask.shape != (wanted := (pixel_values.shape[0], *pixel_values.shape[2:])):
            raise ValueError(f"pixel_mask has shape {tuple(pixel_mask.shape)}; expected {wanted}, as pixel_values has")
        if (mask_labels is None) != (class_labels is None):
            raise ValueError("mask_labels and class_labels say together what there is; give both, or neither")
        grids, found = self.body.predictions(pixel_values)
        (x, masks), norm = found[-1], self.body.norm
        if mask_labels is None or class_labels is None:
            return UniversalSegmentationOutput(None, self.head(norm(x)), masks, x, grids)
        targets = MaskTargets.of(mask_labels, class_labels, len(x), self.config.num_classes, masks)
        layers = [(self.head(norm(states)), masks) for states, masks in found]
        return UniversalSegmentationOutput(self.criterion(layers, targets), layers[-1][0], masks, x, grids)

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks."""
        return self.body.blocks

    @property
    def num_parameters(self) -> int:
        """Parameters, the head's included."""
        return sum(parameter.numel() for parameter in self.parameters())


HEADS = {"universal_segmentation": Mask2FormerForUniversalSegmentation}
"""Task -> class."""
