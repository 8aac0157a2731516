"""Mask2Former's settings (Cheng et al. 2022), its published sizes, and both as Hugging Face writes them."""

from dataclasses import dataclass, field, replace
from typing import Any

from glassformer.checkpoints.config import ACTIVATION_NAMES, Compound, ConfigTable, Values
from glassformer.models import swin
from glassformer.models.swin import SwinConfig
from glassformer.models.vision import CLASSES, check_classes

NUM_STAGES = 4
"""Stages of the backbone; the pixel decoder's attention reads the last three."""


@dataclass(frozen=True, kw_only=True)
class Mask2FormerConfig:
    """Section 4.1 of the paper; the defaults are Mask2Former on Swin-T with COCO's 80 classes of objects.

    The three weights are of matching and of loss alike; queries that stand for nothing count `nothing_weight` times.
    Masks are compared at `num_points` points, of which a share of `importance_ratio` are the most uncertain of
    `oversample_ratio` times as many. `activation` is the decoder's; the pixel decoder's is a ReLU.
    """

    backbone: SwinConfig = field(default_factory=lambda: SwinConfig(path_dropout=0.3))
    dim: int = 256
    mask_dim: int = 256
    num_heads: int = 8
    num_encoder_layers: int = 6
    encoder_hidden_dim: int = 1024
    num_layers: int = 9
    hidden_dim: int = 2048
    activation: str = "relu"
    dropout: float = 0.0
    num_queries: int = 100
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    nothing_weight: float = 0.1
    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_ratio: float = 0.75
    num_classes: int = 80
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.dim < 32 or self.dim % 32:
            raise ValueError(f"dim={self.dim} does not fall into 32 groups to normalise; expected a multiple of 32")
        if len(self.backbone.depths) != NUM_STAGES:
            raise ValueError(
                f"the backbone has {len(self.backbone.depths)} stages; the pixel decoder reads {NUM_STAGES}"
            )
        if self.backbone.labels is not None or self.backbone.num_classes != SwinConfig.num_classes:
            raise ValueError("the backbone tells no classes apart; set num_classes and labels of Mask2Former, not its")
        if self.num_queries < 1 or self.num_layers < 1 or self.num_points < 1:
            raise ValueError(f"num_queries={self.num_queries}, num_layers={self.num_layers} and "
                             f"num_points={self.num_points} must each be 1 or more")  # fmt: skip
        if not 0 <= self.importance_ratio <= 1 or self.oversample_ratio < 1:
            raise ValueError(f"importance_ratio={self.importance_ratio} must lie in 0 to 1, and oversample_ratio="
                             f"{self.oversample_ratio} be 1 or more")  # fmt: skip
        check_classes(self.num_classes, self.labels)

    @property
    def channels(self) -> int:
        """The pictures'."""
        return self.backbone.channels


def _backbone(size: str, **changes: Any) -> SwinConfig:
    return replace(swin.SIZES[f"swin-{size}-patch4-window7-224"], path_dropout=0.3, **changes)


_LARGER: dict[str, Any] = dict(image_size=384, window_size=12)  # of backbones that learned on ImageNet-22k
SIZES = {  # table 1; 200 queries for Swin-L: section 4.1
    "mask2former-swin-tiny": Mask2FormerConfig(),
    "mask2former-swin-small": Mask2FormerConfig(backbone=_backbone("small")),
    "mask2former-swin-base": Mask2FormerConfig(backbone=_backbone("base", **_LARGER)),
    "mask2former-swin-large": Mask2FormerConfig(backbone=_backbone("large", **_LARGER), num_queries=200),
}

SWIN = swin.config_table("SwinBackbone")
STAGES = [f"stage{i + 1}" for i in range(NUM_STAGES)]
OF_A_FILE = ("architectures", "dtype", "bos_token_id", "eos_token_id", "pad_token_id", "id2label", "label2id")
NO_BACKBONE = {"backbone": None, "use_pretrained_backbone": False, "use_timm_backbone": False, "backbone_kwargs": None}


def _load_backbone(theirs: dict[str, Any]) -> dict[str, Any]:
    found = theirs.get("backbone_config")
    for name, value in NO_BACKBONE.items():
        if theirs.get(name) not in (None, value, {}):
            raise ValueError(f"config.json has {name}={theirs[name]!r}; only a backbone_config is read")
    if not isinstance(found, dict) or found.get("model_type") != "swin":
        kind = found.get("model_type") if isinstance(found, dict) else found
        raise ValueError(f"config.json has a backbone_config of {kind!r}; only 'swin' is implemented")
    if found.get("out_features", STAGES) != STAGES:
        raise ValueError(f"config.json has out_features={found['out_features']!r} for its backbone; expected {STAGES}")
    plain = {name: value for name, value in found.items() if name not in OF_A_FILE}
    return {"backbone": replace(SWIN.load(plain), num_classes=SwinConfig.num_classes, labels=None)}


def _save_backbone(config: Mask2FormerConfig) -> dict[str, Any]:
    plain = {name: value for name, value in SWIN.save(config.backbone).items() if name not in OF_A_FILE}
    return {"backbone_config": plain | {"out_features": STAGES}}


def _load_widths(theirs: dict[str, Any]) -> dict[str, Any]:
    dim = theirs.get("hidden_dim", 256)
    if theirs.get("feature_size", 256) != dim:
        raise ValueError(f"config.json has feature_size={theirs.get('feature_size', 256)!r} and hidden_dim={dim!r}; "
                         "only one width for pixels and queries is implemented")  # fmt: skip
    return {"dim": dim}


def _load_depth(theirs: dict[str, Any]) -> dict[str, Any]:
    layers = theirs.get("decoder_layers", 10)
    if type(layers) is not int or layers < 2:
        raise ValueError(
            f"config.json has decoder_layers={layers!r}; expected 2 or more: one more than there are blocks"
        )
    return {"num_layers": layers - 1}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    return ConfigTable(
        config=Mask2FormerConfig,
        model_type="mask2former",
        architectures=(architecture,),
        names={
            "mask_feature_size": "mask_dim",
            "num_attention_heads": "num_heads",
            "encoder_layers": "num_encoder_layers",
            "encoder_feedforward_dim": "encoder_hidden_dim",
            "dim_feedforward": "hidden_dim",
            "activation_function": Values("activation", ACTIVATION_NAMES),
            "dropout": "dropout",
            "num_queries": "num_queries",
            "class_weight": "class_weight",
            "mask_weight": "mask_weight",
            "dice_weight": "dice_weight",
            "no_object_weight": "nothing_weight",
            "train_num_points": "num_points",
            "oversample_ratio": "oversample_ratio",
            "importance_sample_ratio": "importance_ratio",
        },
        defaults={"mask_feature_size": 256, "num_attention_heads": 8, "encoder_layers": 6,
                  "encoder_feedforward_dim": 1024, "dim_feedforward": 2048, "activation_function": "relu",
                  "dropout": 0.0, "num_queries": 100, "class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0,
                  "no_object_weight": 0.1, "train_num_points": 12544, "oversample_ratio": 3.0,
                  "importance_sample_ratio": 0.75},
        fixed={"pre_norm": False, "enforce_input_projection": False,
               "use_auxiliary_loss": True, "common_stride": 4,
               "feature_strides": [4, 8, 16, 32]},
        # Of how weights are drawn, of what is given back, of their processor; and other names of what is read.
        ignored={"init_std", "init_xavier_std", "output_auxiliary_logits", "ignore_value", "num_hidden_layers",
                 "enforce_input_proj"},
        compounds=(
            Compound(("backbone_config", *NO_BACKBONE), ("backbone",), _load_backbone, _save_backbone),
            Compound(("hidden_dim", "feature_size"), ("dim",), _load_widths,
                     lambda c: {"hidden_dim": c.dim, "feature_size": c.dim}),
            Compound(("decoder_layers",), ("num_layers",), _load_depth, lambda c: {"decoder_layers": c.num_layers + 1}),
            CLASSES,
        ),
    )  # fmt: skip
