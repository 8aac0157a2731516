"""VideoMAE's settings, its published sizes, and how Hugging Face's `config.json` says them."""

from dataclasses import dataclass
from typing import Any

from glassformer.checkpoints.config import ACTIVATION_NAMES, ConfigTable, Values
from glassformer.models.vision import CLASSES, check_classes


@dataclass(frozen=True, kw_only=True)
class VideoMAEConfig:
    """Sections 3 and 4.1 of the paper; the defaults are ViT-Base on 16 frames, and the decoder of 4 blocks, 384 wide.

    A tubelet has `tubelet_frames` frames of a patch. `pooling` is what a classifier reads: "mean", the tubelets'
    average, normed; or "first", the first of the normed tubelets. The decoder's settings matter to `VideoMAE` alone:
    with `normalized_pixels` each channel of a tubelet is drawn less its mean, over its standard deviation.
    """

    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    num_frames: int = 16
    tubelet_frames: int = 2
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    decoder_dim: int = 384
    decoder_num_layers: int = 4
    decoder_num_heads: int = 6
    decoder_hidden_dim: int = 1536
    normalized_pixels: bool = True
    activation: str = "gelu"
    norm_eps: float = 1e-12
    attention_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    pooling: str = "mean"
    num_classes: int = 400
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for size, part in (("image_size", "patch_size"), ("num_frames", "tubelet_frames")):
            whole, piece = getattr(self, size), getattr(self, part)
            if piece < 1 or whole < 1 or whole % piece:
                raise ValueError(f"{part}={piece} does not divide {size}={whole}")
        if self.dim % 2 or self.decoder_dim % 2:
            raise ValueError(f"dim={self.dim} and decoder_dim={self.decoder_dim} must be even, for pairs of waves")
        if self.pooling not in ("mean", "first"):
            raise ValueError(f"pooling={self.pooling!r} is unknown; expected 'mean' or 'first'")
        if self.channels != 3 and not self.normalized_pixels:
            raise ValueError(f"channels={self.channels} have no known mean; draw normalized_pixels")
        check_classes(self.num_classes, self.labels)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tubelets along time, rows and columns."""
        side = self.image_size // self.patch_size
        return self.num_frames // self.tubelet_frames, side, side

    @property
    def num_tubelets(self) -> int:
        """Tokens of a clip."""
        times, rows, columns = self.grid
        return times * rows * columns


def _sizes(dim: int, num_layers: int, num_heads: int, **decoder: Any) -> VideoMAEConfig:
    return VideoMAEConfig(dim=dim, num_layers=num_layers, num_heads=num_heads, hidden_dim=4 * dim, **decoder)


SIZES = {  # as released: the decoder is half as wide as the encoder
    "videomae-small": _sizes(
        384, 12, 16, decoder_dim=192, decoder_num_layers=12, decoder_num_heads=3, decoder_hidden_dim=768
    ),
    "videomae-base": VideoMAEConfig(),
    "videomae-large": _sizes(
        1024, 24, 16, decoder_dim=512, decoder_num_layers=12, decoder_num_heads=8, decoder_hidden_dim=2048
    ),
    "videomae-huge": _sizes(
        1280, 32, 16, decoder_dim=640, decoder_num_layers=12, decoder_num_heads=8, decoder_hidden_dim=2560
    ),
}


def config_table(architecture: str) -> ConfigTable:
    """How their class of this name says it."""
    names: dict[str, Any] = {
        "image_size": "image_size", "patch_size": "patch_size", "num_channels": "channels", "num_frames": "num_frames",
        "tubelet_size": "tubelet_frames", "hidden_size": "dim", "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads", "intermediate_size": "hidden_dim", "decoder_hidden_size": "decoder_dim",
        "decoder_num_hidden_layers": "decoder_num_layers", "decoder_num_attention_heads": "decoder_num_heads",
        "decoder_intermediate_size": "decoder_hidden_dim", "norm_pix_loss": "normalized_pixels",
        "hidden_act": Values("activation", ACTIVATION_NAMES), "layer_norm_eps": "norm_eps",
        "qv_bias": "attention_bias", "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "use_mean_pooling": Values("pooling", {True: "mean", False: "first"}),
    }  # fmt: skip
    given = VideoMAEConfig()
    defaults = {theirs: getattr(given, ours) for theirs, ours in names.items() if isinstance(ours, str)}
    return ConfigTable(
        config=VideoMAEConfig, model_type="videomae", architectures=(architecture,), names=names,
        defaults=defaults | {"hidden_act": "gelu", "use_mean_pooling": True}, compounds=(CLASSES,),
    )  # fmt: skip
