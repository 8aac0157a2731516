"""Conditional DETR (Meng et al. 2021): a query asks at a place of its own, so training takes a tenth of DETR's time."""

from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from glassformer.checkpoints.config import ConfigTable
from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import Table
from glassformer.models.detection import (
    COMPOUNDS,
    DEFAULTS,
    FIXED,
    IGNORED,
    NAMES,
    ObjectDetection,
    Perceptron,
    check_detector,
)
from glassformer.models.detr import HEADS_TABLE
from glassformer.models.detr_encoder import DETREncoder, EncoderMemory, draw, encoder_table, feed_forward
from glassformer.models.outputs import EncoderOutput
from glassformer.models.resnet import ResNetConfig
from glassformer.models.set_loss import FocalClasses, SetLoss
from glassformer.models.vision import check_classes
from glassformer.parts import Dropout, Embedding, LayerNorm, Linear
from glassformer.parts.conditional_attention import ConditionalAttention, PlacedAttention
from glassformer.parts.sine_position import sine_points


@dataclass(frozen=True, kw_only=True)
class ConditionalDETRConfig:
    """Section 4.1 of the paper; the defaults are the model with ResNet-50, and COCO's classes. As `DETRConfig`, but
    for `focal_alpha`, the share that "yes, this class" has in the focal loss."""

    backbone: ResNetConfig = field(default_factory=ResNetConfig)
    backbone_names: str = "transformers"
    num_queries: int = 300
    dim: int = 256
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    hidden_dim: int = 2048
    activation: str = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    auxiliary_loss: bool = False
    class_cost: int = 2
    box_cost: int = 5
    giou_cost: int = 2
    box_weight: int = 5
    giou_weight: int = 2
    focal_alpha: float = 0.25
    num_classes: int = 91
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_detector(self)
        check_classes(self.num_classes, self.labels)


SIZES = {  # table 1
    "conditional-detr-resnet-50": ConditionalDETRConfig(),
    "conditional-detr-resnet-101": ConditionalDETRConfig(backbone=replace(ResNetConfig(), depths=(3, 4, 23, 3))),
}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=ConditionalDETRConfig, model_type="conditional_detr", architectures=(architecture,),
        names=NAMES | {"focal_alpha": "focal_alpha"},
        defaults=DEFAULTS | {"num_queries": 300, "class_cost": 2, "focal_alpha": 0.25},
        fixed=FIXED, ignored=IGNORED | {"cls_loss_coefficient"},  # their loss does not read it
        compounds=COMPOUNDS,
    )  # fmt: skip


def body_table(config: ConditionalDETRConfig, theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    block, own = f"{theirs}decoder.layers.*.", f"{ours}decoder.blocks.*."
    self_attention = "sa_{qcontent,qpos,kcontent,kpos,v}_proj"
    cross = "ca_{qcontent,qpos,qpos_sine,kcontent,kpos,v}_proj"
    return {
        **encoder_table(config, theirs, ours),
        f"{block}{self_attention}": f"{own}attention.{{query,query_place,key,key_place,value}}",
        f"{block}{cross}": f"{own}cross_attention.{{query,query_joined,query_place,key,key_place,value}}",
        f"{block}{{self_attn,encoder_attn}}.out_proj": f"{own}{{attention,cross_attention}}.output",
        f"{theirs}decoder.{{query_scale,ref_point_head}}.layers.*": f"{ours}decoder.{{scale,reference}}.layers.*",
    }


def head_table(config: ConditionalDETRConfig) -> Table:
    """The same of the model with its heads."""
    return {**body_table(config, "model.", "body."), **HEADS_TABLE}


class ConditionalDecoderBlock(nn.Module):
    """As DETR's, but each query reads the picture at `place`, beside what it knows (figure 3)."""

    def __init__(self, config: ConditionalDETRConfig, *, first: bool) -> None:
        super().__init__()
        sizes, dropout = (config.dim, config.num_heads), config.attention_dropout
        self.attention = PlacedAttention(*sizes, dropout=dropout)
        self.attention_norm = LayerNorm(config.dim)
        self.cross_attention = ConditionalAttention(*sizes, joined=first, dropout=dropout)
        self.cross_attention_norm = LayerNorm(config.dim)
        self.feed_forward = feed_forward(config)
        self.feed_forward_norm = LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        self.first = first

    def forward(
        self,
        x: Float[Tensor, "b q d"],
        query: Float[Tensor, "1 q d"],
        place: Float[Tensor, "#b q d"],
        memory: EncoderMemory,
    ) -> Float[Tensor, "b q d"]:
        x = self.attention_norm(x + self.dropout(self.attention(x, query)))
        found = self.cross_attention(
            x, memory.features, query_place=place, key_place=memory.position, joined=query if self.first else None,
            mask=memory.mask,
        )  # fmt: skip
        x = self.cross_attention_norm(x + self.dropout(found))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class ConditionalDecoder(nn.Module):
    """Queries with a reference point each, whose waves, scaled by what the query has found, say where to look."""

    def __init__(self, config: ConditionalDETRConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConditionalDecoderBlock(config, first=i == 0) for i in range(config.num_decoder_layers)
        )
        self.norm = LayerNorm(config.dim)
        self.scale = Perceptron(config.dim, config.dim, 2)
        self.reference = Perceptron(config.dim, 2, 2)
        self.every = config.auxiliary_loss

    def forward(
        self, query: Float[Tensor, "q d"], memory: EncoderMemory
    ) -> tuple[list[Float[Tensor, "b q d"]], Float[Tensor, "1 q 2"]]:
        """The hidden states that are read, the last layer's last, and the reference points before their sigmoid."""
        query = query[None]
        points = self.reference(query)
        waves = sine_points(points.sigmoid(), query.shape[-1] // 2)
        x, layers = query.new_zeros(memory.features.shape[0], *query.shape[1:]), []
        for i, block in enumerate(self.blocks):
            x = block(x, query, waves * self.scale(x) if i else waves, memory)  # equation 5
            if self.every:
                layers.append(x := self.norm(x))
        return [*layers[:-1], self.norm(x)], points


class ConditionalDETR(Pretrained, nn.Module):
    """Backbone, encoder, and the conditional decoder: a vector for each query."""

    config_table = config_table("ConditionalDetrModel")
    table = body_table

    def __init__(self, config: ConditionalDETRConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DETREncoder(config)
        self.query_position = Embedding(config.num_queries, config.dim)
        self.decoder = ConditionalDecoder(config)
        draw(self)

    def layers(self, memory: EncoderMemory) -> tuple[list[Float[Tensor, "b q d"]], Float[Tensor, "1 q 2"]]:
        """What the heads read; see `ConditionalDecoder`."""
        return self.decoder(self.query_position.weight, memory)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> EncoderOutput:
        """A vector for each query, (b, q, d); arguments and errors are those of `ObjectDetection.forward`."""
        return EncoderOutput(self.layers(self.encoder(pixel_values, pixel_mask))[0][-1])

    @property
    def num_parameters(self) -> int:
        """Parameters; the backbone's frozen norms have none."""
        return sum(parameter.numel() for parameter in self.parameters())


class ConditionalDETRForObjectDetection(ObjectDetection):
    """A linear head for classes, and three layers for boxes, whose centres are counted from the reference points."""

    config_table = config_table("ConditionalDetrForObjectDetection")
    table = head_table

    def __init__(self, config: ConditionalDETRConfig) -> None:
        super().__init__()
        self.config = config
        self.body = ConditionalDETR(config)
        self.class_head, self.box_head = Linear(config.dim, config.num_classes), Perceptron(config.dim, 4, 3)
        assert self.class_head.bias is not None
        nn.init.constant_(self.class_head.bias, -4.6)  # all but one in a hundred see nothing (Lin et al. 2017, 4.1)
        self.criterion = SetLoss(
            classes=FocalClasses(config.focal_alpha), class_cost=config.class_cost, box_cost=config.box_cost,
            giou_cost=config.giou_cost, box_weight=config.box_weight, giou_weight=config.giou_weight,
        )  # fmt: skip

    def predictions(self, memory: EncoderMemory) -> Any:
        layers, points = self.body.layers(memory)
        points = nn.functional.pad(points, (0, 2))
        return [(self.class_head(x), (self.box_head(x) + points).sigmoid()) for x in layers], layers[-1]


HEADS = {"object_detection": ConditionalDETRForObjectDetection}
"""Task -> class."""
