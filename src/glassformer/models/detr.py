"""DETR (Carion et al. 2020): objects as a set, each asked for by a query that reads the whole picture."""

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
from glassformer.models.detr_encoder import DETREncoder, EncoderMemory, draw, encoder_table, feed_forward
from glassformer.models.outputs import EncoderOutput
from glassformer.models.resnet import ResNetConfig
from glassformer.models.set_loss import OneClass, SetLoss
from glassformer.models.vision import check_classes
from glassformer.parts import Attention, Dropout, Embedding, LayerNorm, Linear


@dataclass(frozen=True, kw_only=True)
class DETRConfig:
    """Section 4 and appendix A.4 of the paper; the defaults are DETR-R50, and COCO's classes.

    The three costs weigh classes, |Δ box| and 1 − GIoU in the matching, the weights what is matched in the loss,
    `nothing_weight` those that are matched to nothing. With `auxiliary_loss` each decoder layer's predictions are
    trained, and the decoder's norm follows each layer, as in Hugging Face's model; without, only the last.
    `backbone_names` is whose names the backbone's tensors have in files: "transformers" or "timm", as in the released.
    """

    backbone: ResNetConfig = field(default_factory=ResNetConfig)
    backbone_names: str = "transformers"
    num_queries: int = 100
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
    class_cost: int = 1
    box_cost: int = 5
    giou_cost: int = 2
    box_weight: int = 5
    giou_weight: int = 2
    nothing_weight: float = 0.1
    num_classes: int = 91
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_detector(self)
        check_classes(self.num_classes, self.labels)


SIZES = {  # table 1
    "detr-resnet-50": DETRConfig(),
    "detr-resnet-101": DETRConfig(backbone=replace(ResNetConfig(), depths=(3, 4, 23, 3))),
}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=DETRConfig, model_type="detr", architectures=(architecture,),
        names=NAMES | {"eos_coefficient": "nothing_weight"}, defaults=DEFAULTS | {"eos_coefficient": 0.1},
        fixed=FIXED, ignored=IGNORED, compounds=COMPOUNDS,
    )  # fmt: skip


def body_table(config: DETRConfig, theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    block, own = f"{theirs}decoder.layers.*.", f"{ours}decoder.blocks.*."
    return {
        **encoder_table(config, theirs, ours),
        f"{block}self_attn.{{q,k,v,out}}_proj": f"{own}attention.{{query,key,value,output}}",
        f"{block}encoder_attn.{{q,k,v,out}}_proj": f"{own}cross_attention.{{query,key,value,output}}",
    }


HEADS_TABLE: Table = {"class_labels_classifier": "class_head", "bbox_predictor.layers.*": "box_head.layers.*"}


def head_table(config: DETRConfig) -> Table:
    """The same of the model with its heads."""
    return {**body_table(config, "model.", "body."), **HEADS_TABLE}


class DETRDecoderBlock(nn.Module):
    """The queries read one another, then the picture, then think (A.3); what a query asks for joins q and k."""

    def __init__(self, config: DETRConfig) -> None:
        super().__init__()
        self.attention = Attention(config.dim, config.num_heads, dropout=config.attention_dropout)
        self.attention_norm = LayerNorm(config.dim)
        self.cross_attention = Attention(config.dim, config.num_heads, dropout=config.attention_dropout)
        self.cross_attention_norm = LayerNorm(config.dim)
        self.feed_forward = feed_forward(config)
        self.feed_forward_norm = LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "b q d"], query: Float[Tensor, "q d"], memory: EncoderMemory
    ) -> Float[Tensor, "b q d"]:
        asked, where = x + query, memory.features + memory.position
        x = self.attention_norm(x + self.dropout(self.attention(asked, asked, x)))
        found = self.cross_attention(x + query, where, memory.features, mask=memory.mask)
        x = self.cross_attention_norm(x + self.dropout(found))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class DETRDecoder(nn.Module):
    """The decoder's blocks, and the norm of what they give."""

    def __init__(self, config: DETRConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DETRDecoderBlock(config) for _ in range(config.num_decoder_layers))
        self.norm = LayerNorm(config.dim)
        self.every = config.auxiliary_loss

    def forward(self, query: Float[Tensor, "q d"], memory: EncoderMemory) -> list[Float[Tensor, "b q d"]]:
        """The hidden states that are read: the last layer's, and before it those of the layers that learn."""
        x, layers = query.new_zeros(memory.features.shape[0], *query.shape), []
        for block in self.blocks:
            x = block(x, query, memory)
            if self.every:
                layers.append(x := self.norm(x))
        return [*layers[:-1], self.norm(x)]


class DETR(Pretrained, nn.Module):
    """Backbone, encoder, and decoder: a vector for each query (figure 2)."""

    config_table = config_table("DetrModel")
    table = body_table

    def __init__(self, config: DETRConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DETREncoder(config)
        self.query_position = Embedding(config.num_queries, config.dim)
        self.decoder = DETRDecoder(config)
        draw(self)

    def layers(self, memory: EncoderMemory) -> list[Float[Tensor, "b q d"]]:
        """What the heads read; see `DETRDecoder`."""
        return self.decoder(self.query_position.weight, memory)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> EncoderOutput:
        """A vector for each query, (b, q, d); arguments and errors are those of `ObjectDetection.forward`."""
        return EncoderOutput(self.layers(self.encoder(pixel_values, pixel_mask))[-1])

    @property
    def num_parameters(self) -> int:
        """Parameters; the backbone's frozen norms have none."""
        return sum(parameter.numel() for parameter in self.parameters())


class DETRForObjectDetection(ObjectDetection):
    """A linear head for classes, "nothing" the last of them, and three layers for boxes (section 3.2)."""

    config_table = config_table("DetrForObjectDetection")
    table = head_table

    def __init__(self, config: DETRConfig) -> None:
        super().__init__()
        self.config = config
        self.body = DETR(config)
        self.class_head = Linear(config.dim, config.num_classes + 1)
        self.box_head = Perceptron(config.dim, 4, 3)
        self.criterion = SetLoss(
            classes=OneClass(config.nothing_weight), class_cost=config.class_cost, box_cost=config.box_cost,
            giou_cost=config.giou_cost, box_weight=config.box_weight, giou_weight=config.giou_weight,
        )  # fmt: skip

    def predictions(self, memory: EncoderMemory) -> Any:
        layers = self.body.layers(memory)
        return [(self.class_head(x), self.box_head(x).sigmoid()) for x in layers], layers[-1]


HEADS = {"object_detection": DETRForObjectDetection}
"""Task -> class."""
