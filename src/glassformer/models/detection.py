"""What detectors share: how their configs are written, the layers on top, and a forward pass with labels."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from glassformer.checkpoints.config import ACTIVATION_NAMES, Compound, Values, words
from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import Table
from glassformer.models import resnet
from glassformer.models.outputs import DetectionOutput
from glassformer.models.resnet import ResNetConfig
from glassformer.models.set_loss import Label, SetLoss, Targets
from glassformer.models.transformer import same
from glassformer.models.vision import CLASSES
from glassformer.parts import Linear

RESNET = resnet.config_table("ResNetBackbone")
PICTURES = ("backbone_config", "num_channels", "use_timm_backbone", "backbone", "use_pretrained_backbone",
            "backbone_kwargs")  # fmt: skip


TIMM = {name.replace("-", ""): config for name, config in resnet.SIZES.items()}
"""What timm calls these: "resnet50"."""


def _load_backbone(theirs: dict[str, Any]) -> dict[str, Any]:
    found = theirs.get("backbone_config") or {}
    kind = found.get("model_type") if isinstance(found, dict) else found
    if kind == "timm_backbone" or (not kind and theirs.get("use_timm_backbone", True)):
        name = found.get("backbone") or theirs.get("backbone") or "resnet50"
        channels = theirs.get("num_channels", 3)
        if name not in TIMM:
            raise ValueError(f"config.json has timm's backbone {name!r}; expected one of {', '.join(TIMM)}")
        return {"backbone": replace(TIMM[name], channels=channels), "backbone_names": "timm"}
    if kind != "resnet" or theirs.get("use_timm_backbone"):
        raise ValueError(f"config.json has a backbone of the kind {kind!r}; expected a backbone_config whose "
                         "model_type is 'resnet', or a ResNet of timm")  # fmt: skip
    named = found.get("out_features") or found.get("stage_names", [None])[-1:]
    config = RESNET.load({name: value for name, value in found.items() if name not in ("id2label", "label2id")})
    if named[-1] not in (None, last := f"stage{len(config.dims)}"):
        raise ValueError(f"config.json's backbone gives out_features={named!r}; only the last stage, {last!r}, is read")
    if theirs.get("num_channels", config.channels) != config.channels:
        raise ValueError(f"config.json has num_channels={theirs['num_channels']!r}; its backbone {config.channels}")
    backbone = replace(config, num_classes=ResNetConfig().num_classes, labels=None)
    return {"backbone": backbone, "backbone_names": "transformers"}


def _save_backbone(config: Any) -> dict[str, Any]:
    common = {"num_channels": config.backbone.channels, "use_timm_backbone": config.backbone_names == "timm"}
    if config.backbone_names == "timm":
        plain = replace(config.backbone, channels=3)
        name = next((name for name, known in TIMM.items() if known == plain), None)
        if name is None:
            raise ValueError("backbone_names='timm' names published sizes alone; 'transformers' says any")
        return common | {"backbone": name, "backbone_config": None}
    found = RESNET.save(config.backbone)
    names = ("stem", *(f"stage{i + 1}" for i in range(len(config.backbone.dims))))
    unsaid = ("architectures", "id2label", "label2id", "dtype", "bos_token_id", "eos_token_id", "pad_token_id")
    found = {name: value for name, value in found.items() if name not in unsaid}
    return common | {"backbone_config": found | {"stage_names": list(names), "out_features": [names[-1]]}}


def backbone_table(config: Any, theirs: str, ours: str) -> Table:
    """The names of the backbone's tensors, as the config says whose they are."""
    if config.backbone_names == "timm":
        basic = config.backbone.block == "basic"
        return resnet.timm_table(theirs, ours, basic=basic, stages=len(config.backbone.dims))
    return resnet.encoder_table(theirs, ours, counted=False)


NAMES: dict[str, str | Values] = {
    "num_queries": "num_queries",
    "d_model": "dim",
    "encoder_layers": "num_encoder_layers",
    "decoder_layers": "num_decoder_layers",
    "activation_function": Values("activation", ACTIVATION_NAMES),
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "hidden_dropout",
    "auxiliary_loss": "auxiliary_loss",
    "class_cost": "class_cost",
    "bbox_cost": "box_cost",
    "giou_cost": "giou_cost",
    "bbox_loss_coefficient": "box_weight",
    "giou_loss_coefficient": "giou_weight",
}
DEFAULTS: dict[str, Any] = {
    "num_queries": 100, "d_model": 256, "encoder_layers": 6, "decoder_layers": 6, "activation_function": "relu",
    "dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0, "auxiliary_loss": False, "class_cost": 1,
    "bbox_cost": 5, "giou_cost": 2, "bbox_loss_coefficient": 5, "giou_loss_coefficient": 2,
}  # fmt: skip
FIXED = {"is_encoder_decoder": True, "position_embedding_type": "sine", "dilation": False, "encoder_layerdrop": 0.0,
         "decoder_layerdrop": 0.0}  # fmt: skip
IGNORED = words(
    "init_std init_xavier_std mask_loss_coefficient dice_loss_coefficient num_hidden_layers scale_embedding "
    "max_position_embeddings classifier_dropout"
)
"""How weights were drawn; losses of masks, which are another head's; what their models never read."""
COMPOUNDS = (
    Compound(PICTURES, ("backbone", "backbone_names"), _load_backbone, _save_backbone),
    same("num_heads", encoder_attention_heads=8, decoder_attention_heads=8),
    same("hidden_dim", encoder_ffn_dim=2048, decoder_ffn_dim=2048),
    CLASSES,
)


def check_detector(config: Any) -> None:
    """Raise ValueError for sizes that no detector has."""
    if config.dim < 4 or config.dim % 4:
        raise ValueError(f"dim={config.dim} cannot be halved twice: waves for rows and columns, sines and cosines")
    if config.backbone_names not in ("transformers", "timm"):
        raise ValueError(f"backbone_names={config.backbone_names!r} is unknown; expected 'transformers' or 'timm'")
    for name in ("num_queries", "num_decoder_layers"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}={getattr(config, name)} predicts nothing; expected 1 or more")


class Perceptron(nn.Module):
    """Linear layers with a ReLU after each but the last: `depth` of them, all but the last as wide as the input."""

    def __init__(self, dim: int, out_dim: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(dim, dim if i < depth - 1 else out_dim) for i in range(depth))

    def forward(self, x: Float[Tensor, "*rows i"]) -> Float[Tensor, "*rows o"]:
        *first, last = self.layers
        for layer in first:
            x = layer(x).relu()
        return last(x)


class ObjectDetection(Pretrained, nn.Module, ABC):
    """What stands in a picture, and where: a set of `num_queries` predictions, most of them of nothing.

    A model writes `predictions` and `criterion`; the model without the heads is held as `body`.
    """

    config: Any
    body: Any
    criterion: SetLoss

    @abstractmethod
    def predictions(
        self, memory: Any
    ) -> tuple[list[tuple[Float[Tensor, "b q n"], Float[Tensor, "b q 4"]]], Float[Tensor, "b q d"]]:
        """Logits and boxes of each decoder layer that learns, the last one's last; and the last hidden states.

        `memory` is what the body's encoder has found.
        """

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Shaped[Tensor, "b y x"] | None = None,
        labels: Sequence[Label] | None = None,
    ) -> DetectionOutput:
        """Logits (b, q, n) and boxes (b, q, 4), `cx cy w h` in parts of each picture; with labels, the loss.

        Args:
            pixel_values: (b, c, y, x), normalised; smaller pictures of a batch are filled up below and to the right.
            pixel_mask: (b, y, x), true or 1 at pixels of the picture, false or 0 at padding; None: all are pixels.
            labels: for each picture {"class_labels": (m,), "boxes": (m, 4)}, the boxes `cx cy w h` in parts of the
                picture without padding; m may be 0. The loss sums all layers' with `auxiliary_loss`.

        Raises:
            ValueError, TypeError, KeyError: for pictures as for any image encoder, for a mask of another shape, and
            for labels as `Targets.of`.
        """
        size, like = (pixel_values.shape[0], self.config.num_classes), self.body.query_position.weight
        targets = None if labels is None else Targets.of(labels, *size, like)
        memory = self.body.encoder(pixel_values, pixel_mask)
        layers, hidden = self.predictions(memory)
        logits, boxes = layers[-1]
        loss = None if targets is None else self.criterion(layers, targets)
        return DetectionOutput(loss, logits, boxes, hidden, memory.features)

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder's blocks."""
        return self.body.decoder.blocks

    @property
    def num_parameters(self) -> int:
        """Parameters, the heads' included."""
        return sum(parameter.numel() for parameter in self.parameters())


def present_places(pixel_mask: Tensor | None, pixels: Tensor, rows: int, columns: int) -> Shaped[Tensor, "b y x"]:
    """Which places of a grid lie on a picture: the mask's value at each one's first pixel; (1, y, x) without a mask.

    Raises ValueError for a mask of another shape than the pictures'.
    """
    if pixel_mask is None:
        return torch.ones(1, rows, columns, dtype=torch.bool, device=pixels.device)
    wanted = (pixels.shape[0], *pixels.shape[2:])
    if tuple(pixel_mask.shape) != wanted:
        raise ValueError(f"pixel_mask has shape {tuple(pixel_mask.shape)}; expected {wanted}, as pixel_values has")
    return F.interpolate(pixel_mask[None].float(), size=(rows, columns))[0].bool()
