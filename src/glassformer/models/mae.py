"""MAE (He et al. 2022): an encoder reads a quarter of a picture's patches, a small decoder draws the rest."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassformer.checkpoints.config import ConfigTable
from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import Table, Tied
from glassformer.models import vit
from glassformer.models.outputs import ReconstructionOutput
from glassformer.models.vit import ViT, ViTBlock, ViTConfig
from glassformer.parts import GridPosition, LayerNorm, Linear


@dataclass(frozen=True, kw_only=True)
class MAEConfig:
    """Sections 3 and 4.1 of the paper; the defaults are ViT-Base and the decoder of 8 blocks, 512 wide.

    A share `mask_ratio` of the patches is hidden. With `normalized_pixels` the target is each patch's pixels less their
    mean, over their standard deviation (section 3, "Reconstruction target"). Other settings are those of `ViTConfig`.
    """

    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    dim: int = 768
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 3072
    decoder_dim: int = 512
    decoder_num_layers: int = 8
    decoder_num_heads: int = 16
    decoder_hidden_dim: int = 2048
    mask_ratio: float = 0.75
    normalized_pixels: bool = False
    activation: str = "gelu"
    norm_eps: float = 1e-12
    attention_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        patches = (self.image_size // max(self.patch_size, 1)) ** 2
        if not 0 < self.mask_ratio < 1 or not 0 < int(patches * (1 - self.mask_ratio)) < patches:
            raise ValueError(f"mask_ratio={self.mask_ratio} of {patches} patches leaves none to read, or none to draw")
        for name in ("dim", "decoder_dim"):
            if getattr(self, name) % 4:
                raise ValueError(f"{name}={getattr(self, name)} must be a multiple of 4, for waves of rows and columns")
        _ = self.encoder  # which checks the rest

    @property
    def encoder(self) -> ViTConfig:
        """What is kept after pre-training."""
        shared = {name: getattr(self, name) for name in _SHARED}
        return ViTConfig(
            dim=self.dim, num_layers=self.num_layers, num_heads=self.num_heads, hidden_dim=self.hidden_dim, **shared
        )

    @property
    def decoder(self) -> ViTConfig:
        """What is thrown away: its blocks are a ViT's too."""
        return replace(
            self.encoder, dim=self.decoder_dim, num_layers=self.decoder_num_layers, num_heads=self.decoder_num_heads,
            hidden_dim=self.decoder_hidden_dim,
        )  # fmt: skip


_SHARED = ("image_size", "patch_size", "channels", "activation", "norm_eps", "attention_bias", "dropout",
           "attention_dropout")  # fmt: skip

SIZES = {  # table 3 and appendix A.1; the decoder is the same for all
    "mae-base-patch16-224": MAEConfig(),
    "mae-large-patch16-224": MAEConfig(dim=1024, num_layers=24, num_heads=16, hidden_dim=4096),
    "mae-huge-patch14-224": MAEConfig(patch_size=14, dim=1280, num_layers=32, num_heads=16, hidden_dim=5120),
}

_VIT = vit.config_table("ViTModel")
_WIDTHS = {
    "hidden_size": "dim",
    **{f"decoder_{theirs}": f"decoder_{ours}" for theirs, ours in (
        ("hidden_size", "dim"), ("num_hidden_layers", "num_layers"), ("num_attention_heads", "num_heads"),
        ("intermediate_size", "hidden_dim"))},
}  # fmt: skip
CONFIG_TABLE = ConfigTable(
    config=MAEConfig,
    model_type="vit_mae",
    architectures=("ViTMAEForPreTraining",),
    names={**_VIT.names, **_WIDTHS, "mask_ratio": "mask_ratio", "norm_pix_loss": "normalized_pixels"},
    defaults={**_VIT.defaults, "hidden_size": 768, "decoder_hidden_size": 512, "decoder_num_hidden_layers": 8,
              "decoder_num_attention_heads": 16, "decoder_intermediate_size": 2048, "mask_ratio": 0.75,
              "norm_pix_loss": False},
)  # fmt: skip


def _decoder_rows() -> Table:
    """Published files and transformers v5's name the decoder's blocks differently; both are read."""
    rows: dict[str, Any] = {}
    for theirs, ours in vit.encoder_table().items():
        if isinstance(ours, str) and theirs.startswith("encoder.layer.*"):
            rest, own = theirs.removeprefix("encoder.layer.*"), f"decoder.{ours}"
            rows[f"decoder.decoder_layers.*{rest}"] = own
            rows[f"decoder.decoder_encoder.layer.*{rest}"] = Tied(own)
    return rows


TABLE: Table = {
    **vit.encoder_table("vit.", "encoder."),
    **_decoder_rows(),
    "decoder.decoder_{embed,norm,pred}": "decoder.{embed,norm,predict}",
    "decoder.{mask_token,decoder_pos_embed}": "decoder.{mask_token,position.weight}",
}


def waves(size: int, dim: int) -> Float[Tensor, "1 t d"]:
    """Fixed positions of a grid of size × size, and zeros for the class token in front.

    A quarter of the width each: sin(c ω), cos(c ω) of the column c, sin(r ω), cos(r ω) of the row r, where
    ω = 10000^(−4i/d), i = 0 … d/4 − 1 (section 3, "Architecture"; columns first, as in the released code).
    """
    frequency = 10_000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angle = torch.arange(size, dtype=torch.float64)[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    grid = torch.cat([wave.expand(size, -1, -1), wave[:, None].expand(-1, size, -1)], dim=2)
    return torch.cat([grid.new_zeros(1, dim), grid.flatten(0, 1)])[None]


def fix_position(position: GridPosition) -> None:
    """Set the vectors to `waves`; they do not learn."""
    with torch.no_grad():
        position.weight.copy_(waves(position.size, position.weight.shape[-1]))
    position.weight.requires_grad = False


class MAEDecoder(nn.Module):
    """Pixels of every patch, from the encoder's vectors of some and one learned vector for each other (section 3)."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        inner, p = config.decoder, config.patch_size
        self.embed = Linear(config.dim, inner.dim)
        self.mask_token = nn.Parameter(torch.randn(1, 1, inner.dim) * 0.02)
        self.position = GridPosition(config.image_size // p, inner.dim, before=1)
        fix_position(self.position)
        self.blocks = nn.ModuleList(ViTBlock(inner) for _ in range(inner.num_layers))
        self.norm = LayerNorm(inner.dim, inner.norm_eps)
        self.predict = Linear(inner.dim, p * p * config.channels)

    def forward(self, x: Float[Tensor, "b s d"], restore: Int[Tensor, "b t"]) -> Float[Tensor, "b t p"]:
        """`restore` says where in (what was read, then what was hidden) each patch is."""
        x = self.embed(x)
        hidden = self.mask_token.expand(len(x), restore.shape[1] + 1 - x.shape[1], -1)
        patches = torch.cat([x[:, 1:], hidden], dim=1).gather(1, restore[..., None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], patches], dim=1) + self.position.weight
        for block in self.blocks:
            x = block(x)
        return self.predict(self.norm(x))[:, 1:]


class MAE(Pretrained, nn.Module):
    """The autoencoder. `encoder` is a ViT: what is kept to be fine-tuned or probed."""

    config_table = CONFIG_TABLE
    table = TABLE

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ViT(config.encoder, pooler=False)
        fix_position(self.encoder.position)
        self.decoder = MAEDecoder(config)

    def forward(self, pixel_values: Tensor, noise: Tensor | None = None) -> ReconstructionOutput:
        """The mean squared error over the hidden patches, and what was drawn.

        Args:
            pixel_values: (b, c, y, x), of the size in the config.
            noise: (b, t), drawn uniformly where None: the patches with the least are read, the others hidden.

        Raises:
            ValueError, TypeError: for pictures of another size, shape or dtype, and for noise of another shape.
        """
        self.encoder.check(pixel_values)
        pixels, size = pixel_values.to(self.encoder.patches.weight.dtype), self.config.image_size
        if pixels.shape[2:] != (size, size):
            raise ValueError(f"pictures have {pixels.shape[2]} × {pixels.shape[3]} pixels; expected {size} × {size}")
        b, t = len(pixels), (size // self.config.patch_size) ** 2
        noise = torch.rand(b, t, device=pixels.device) if noise is None else noise
        if noise.shape != (b, t):
            raise ValueError(f"noise has shape {tuple(noise.shape)}; expected {(b, t)}, a number for each patch")
        order = noise.argsort(dim=1)
        restore, kept = order.argsort(dim=1), int(t * (1 - self.config.mask_ratio))
        mask = (restore >= kept).to(pixels.dtype)
        x = self.encoder.embedded(pixels)
        read = x[:, 1:].gather(1, order[:, :kept, None].expand(-1, -1, x.shape[2]))
        drawn: Tensor = self.decoder(self.encoder.read(torch.cat([x[:, :1], read], dim=1)), restore)
        error = (drawn - self.target(pixels)).square().mean(-1)
        return ReconstructionOutput((error * mask).sum() / mask.sum(), drawn, mask, restore)

    def target(self, pixels: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t p"]:
        """What is to be drawn: each patch's pixels, row by row, the channels of a pixel together."""
        p = self.config.patch_size
        patches = rearrange(pixels, "b c (y p) (x q) -> b (y x) (p q c)", p=p, q=p)
        if not self.config.normalized_pixels:
            return patches
        return (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()

    def fill_in(self, pixel_values: Float[Tensor, "b c y x"], out: ReconstructionOutput) -> Float[Tensor, "b c y x"]:
        """The pictures with their hidden patches as drawn; normalised ones get the mean and spread that they had."""
        assert out.logits is not None
        assert out.mask is not None
        p, drawn = self.config.patch_size, out.logits
        patches = rearrange(pixel_values, "b c (y p) (x q) -> b (y x) (p q c)", p=p, q=p)
        if self.config.normalized_pixels:
            drawn = drawn * (patches.var(-1, keepdim=True) + 1e-6).sqrt() + patches.mean(-1, keepdim=True)
        filled = torch.where(out.mask[..., None] > 0, drawn.to(patches.dtype), patches)
        return rearrange(filled, "b (y x) (p q c) -> b c (y p) (x q)", p=p, q=p, y=pixel_values.shape[2] // p)

    @property
    def blocks(self) -> nn.ModuleList:
        """The encoder's blocks, then the decoder's."""
        return nn.ModuleList([*self.encoder.blocks, *self.decoder.blocks])

    @property
    def num_parameters(self) -> int:
        """Parameters of both, the fixed positions included."""
        return sum(parameter.numel() for parameter in self.parameters())


HEADS = {"pretraining": MAE}
"""Task -> class."""
