"""DETR (Carion et al. 2020): objects as a set, each asked for by a query that reads the whole picture."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import ConfigTable
from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import Table
from glassformer.models import resnet
from glassformer.models.detection import (
    COMPOUNDS,
    DEFAULTS,
    FIXED,
    IGNORED,
    NAMES,
    ObjectDetection,
    Perceptron,
    check_detector,
    present_places,
)
from glassformer.models.outputs import EncoderOutput
from glassformer.models.resnet import ResNet, ResNetConfig
from glassformer.models.set_loss import OneClass, SetLoss
from glassformer.models.vision import check_classes
from glassformer.ops.mask import Mask
from glassformer.parts import ACTIVATIONS, Attention, Embedding, FeedForward, LayerNorm, Linear
from glassformer.parts.batch_norm import FrozenBatchNorm
from glassformer.parts.sine_position import sine_grid


@dataclass(frozen=True, kw_only=True)
class DETRConfig:
    """Section 4 and appendix A.4 of the paper; the defaults are DETR-R50, and COCO's classes.

    The three costs weigh classes, |Δ box| and 1 − GIoU in the matching, the weights what is matched in the loss,
    `nothing_weight` those that are matched to nothing. With `auxiliary_loss` each decoder layer's predictions are
    trained, and the decoder's norm follows each layer, as in Hugging Face's model; without, only the last.
    """

    backbone: ResNetConfig = field(default_factory=ResNetConfig)
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


def encoder_table(theirs: str, ours: str) -> Table:
    """The names in Hugging Face's files of all before the decoder, and of what all decoders have."""
    return {
        **resnet.encoder_table(f"{theirs}backbone.conv_encoder.model.", f"{ours}encoder.backbone.", counted=False),
        f"{theirs}input_projection": f"{ours}encoder.project",
        f"{theirs}query_position_embeddings": f"{ours}query_position",
        f"{theirs}encoder.layers.*.self_attn.{{q,k,v,out}}_proj":
            f"{ours}encoder.blocks.*.attention.{{query,key,value,output}}",
        f"{theirs}{{encoder,decoder}}.layers.*.self_attn_layer_norm": f"{ours}{{encoder,decoder}}.blocks.*.attention_norm",
        f"{theirs}{{encoder,decoder}}.layers.*.fc{{1,2}}": f"{ours}{{encoder,decoder}}.blocks.*.feed_forward.{{up,down}}",
        f"{theirs}{{encoder,decoder}}.layers.*.final_layer_norm": f"{ours}{{encoder,decoder}}.blocks.*.feed_forward_norm",
        f"{theirs}decoder.layers.*.encoder_attn_layer_norm": f"{ours}decoder.blocks.*.cross_attention_norm",
        f"{theirs}decoder.layernorm": f"{ours}decoder.norm",
    }  # fmt: skip


def body_table(theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    rows = {"self_attn": "attention", "encoder_attn": "cross_attention"}
    return encoder_table(theirs, ours) | {
        f"{theirs}decoder.layers.*.{name}.{{q,k,v,out}}_proj":
            f"{ours}decoder.blocks.*.{own}.{{query,key,value,output}}" for name, own in rows.items()
    }  # fmt: skip


HEADS_TABLE: Table = {"class_labels_classifier": "class_head", "bbox_predictor.layers.*": "box_head.layers.*"}


class Memory(NamedTuple):
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
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "b s d"], position: Float[Tensor, "#b s d"], mask: Mask
    ) -> Float[Tensor, "b s d"]:
        where = x + position
        x = self.attention_norm(x + self.dropout(self.attention(where, where, x, mask=mask)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


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
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b q d"], query: Float[Tensor, "q d"], memory: Memory) -> Float[Tensor, "b q d"]:
        asked, where = x + query, memory.features + memory.position
        x = self.attention_norm(x + self.dropout(self.attention(asked, asked, x)))
        found = self.cross_attention(x + query, where, memory.features, mask=memory.mask)
        x = self.cross_attention_norm(x + self.dropout(found))
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

    def forward(self, pixel_values: Tensor, pixel_mask: Shaped[Tensor, "b y x"] | None) -> Memory:
        self.backbone.check(pixel_values)
        grid = self.project(self.backbone.grids(pixel_values.to(self.project.weight.dtype))[-1])
        present = present_places(pixel_mask, pixel_values, *grid.shape[2:])
        position = sine_grid(present, grid.shape[1], grid.dtype).flatten(1, 2)
        mask = Mask() if pixel_mask is None else Mask.padding(present.flatten(1))
        x = grid.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x, position, mask)
        return Memory(x, position, mask)


class DETRDecoder(nn.Module):
    """The decoder's blocks, and the norm of what they give."""

    def __init__(self, config: DETRConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DETRDecoderBlock(config) for _ in range(config.num_decoder_layers))
        self.norm = LayerNorm(config.dim)
        self.every = config.auxiliary_loss

    def forward(self, query: Float[Tensor, "q d"], memory: Memory) -> list[Float[Tensor, "b q d"]]:
        """The hidden states that are read: the last layer's, and before it those of the layers that learn."""
        x, layers = query.new_zeros(len(memory.features), *query.shape), []
        for block in self.blocks:
            x = block(x, query, memory)
            if self.every:
                layers.append(x := self.norm(x))
        return [*layers[:-1], self.norm(x)]


class DETR(nn.Module, Pretrained):
    """Backbone, encoder, and decoder: a vector for each query (figure 2)."""

    config_table = config_table("DetrModel")
    table = body_table()

    def __init__(self, config: DETRConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = DETREncoder(config)
        self.query_position = Embedding(config.num_queries, config.dim)
        self.decoder = DETRDecoder(config)
        draw(self)

    def layers(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> list[Float[Tensor, "b q d"]]:
        """What the heads read; see `DETRDecoder`."""
        return self.decoder(self.query_position.weight, self.encoder(pixel_values, pixel_mask))

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> EncoderOutput:
        """A vector for each query, (b, q, d); arguments and errors are those of `ObjectDetection.forward`."""
        return EncoderOutput(self.layers(pixel_values, pixel_mask)[-1])

    @property
    def num_parameters(self) -> int:
        """Parameters; the backbone's frozen norms have none."""
        return sum(parameter.numel() for parameter in self.parameters())


def draw(body: Any) -> None:
    """Matrices of the transformer by Glorot & Bengio's rule, queries from N(0, 1) (appendix A.4)."""
    for part in (body.encoder.blocks, body.decoder):
        for parameter in part.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
    nn.init.normal_(body.query_position.weight)


class DETRForObjectDetection(ObjectDetection):
    """A linear head for classes, "nothing" the last of them, and three layers for boxes (section 3.2)."""

    config_table = config_table("DetrForObjectDetection")
    table = body_table("model.", "body.") | HEADS_TABLE

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

    def predictions(self, pixel_values: Tensor, pixel_mask: Tensor | None) -> Any:
        layers = self.body.layers(pixel_values, pixel_mask)
        return [(self.class_head(x), self.box_head(x).sigmoid()) for x in layers], layers[-1]


HEADS = {"object_detection": DETRForObjectDetection}
"""Task -> class."""
