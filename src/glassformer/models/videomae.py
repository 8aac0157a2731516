"""VideoMAE (Tong et al. 2022): an encoder reads a tenth of a clip's tubelets, a small decoder draws the rest."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from glassformer.checkpoints.pretrained import Pretrained
from glassformer.checkpoints.table import Table
from glassformer.models.outputs import EncoderOutput, ReconstructionOutput
from glassformer.models.video import VideoClassification, VideoEncoder, draw_by_width
from glassformer.models.videomae_config import VideoMAEConfig, config_table
from glassformer.parts import ACTIVATIONS, Attention, FeedForward, FixedPosition, LayerNorm, Linear, TubeletEmbedding
from glassformer.parts.dropout import Dropout

PIXEL_MEAN, PIXEL_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet: what clips of three channels were normalised with, and what targets are freed of again."""


def _block_rows(theirs: str, ours: str) -> Table:
    rows = {
        "attention.attention.{query,key,value}.weight": "attention.{query,key,value}.weight",
        "attention.attention.{q,v}_bias": "attention.{query,value}.bias",
        "attention.output.dense": "attention.output",
        "{intermediate,output}.dense": "feed_forward.{up,down}",
        "layernorm_{before,after}": "{attention,feed_forward}_norm",
    }
    return {f"{theirs}.{name}": f"{ours}.{own}" for name, own in rows.items()}


def encoder_table(theirs: str = "", ours: str = "") -> Table:
    """The names in Hugging Face's files, behind prefixes on either side."""
    return {
        f"{theirs}embeddings.patch_embeddings.projection": f"{ours}patches",
        **_block_rows(f"{theirs}encoder.layer.*", f"{ours}blocks.*"),
        f"{theirs}layernorm": f"{ours}norm",
    }


TABLE: Table = {
    **encoder_table("videomae.", "encoder."),
    **_block_rows("decoder.decoder_layers.*", "decoder.*"),
    "encoder_to_decoder": "embed",
    "mask_token": "mask_token",
    "decoder.{norm,head}": "{norm,predict}",
}
HEAD_TABLE: Table = {**encoder_table("videomae.", "encoder."), "fc_norm": "norm", "classifier": "head"}


class VideoMAEBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); keys have no bias."""

    def __init__(self, config: VideoMAEConfig, dim: int, num_heads: int, hidden_dim: int) -> None:
        super().__init__()
        biased = "qvo" if config.attention_bias else "o"
        self.attention_norm = LayerNorm(dim, config.norm_eps)
        self.attention = Attention(dim, num_heads, biased=biased, dropout=config.attention_dropout)
        self.feed_forward_norm = LayerNorm(dim, config.norm_eps)
        self.feed_forward = FeedForward(dim, hidden_dim, activation=ACTIVATIONS[config.activation])
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class VideoMAEEncoder(VideoEncoder):
    """Tubelets with their places in time and space, those that are seen through the blocks: what is fine-tuned."""

    config_table = config_table("VideoMAEModel")
    table = encoder_table()

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = TubeletEmbedding(config.channels, config.tubelet_frames, config.patch_size, config.dim)
        self.position = FixedPosition(config.num_tubelets, config.dim)
        self.blocks = nn.ModuleList(
            VideoMAEBlock(config, config.dim, config.num_heads, config.hidden_dim) for _ in range(config.num_layers)
        )
        self.norm = LayerNorm(config.dim, config.norm_eps) if config.pooling == "first" else nn.Identity()
        draw_by_width(self)

    def hidden(self, pixel_values: Float[Tensor, "b t c y x"]) -> Float[Tensor, "b s d"]:
        return self.read(self.embedded(pixel_values))

    def embedded(self, pixel_values: Float[Tensor, "b t c y x"]) -> Float[Tensor, "b s d"]:
        """Every tubelet, with its place."""
        x = self.patches(pixel_values).flatten(1, 3)
        return x + self.position().to(x.dtype)

    def read(self, x: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        """What the blocks make of these tubelets."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def pooled(self, hidden: Float[Tensor, "b s d"]) -> None:
        return None

    def check_size(self, rows: int, columns: int) -> None:
        size = self.config.image_size
        if (rows, columns) != (size, size):
            raise ValueError(f"frames have {rows} × {columns} pixels; expected {size} × {size}")

    def check_frames(self, frames: int) -> None:
        if frames != self.config.num_frames:
            raise ValueError(f"clips have {frames} frames; expected {self.config.num_frames}")


class VideoMAE(Pretrained, nn.Module):
    """The autoencoder. `encoder` is what is kept to be fine-tuned."""

    config_table = config_table("VideoMAEForPreTraining")
    table = TABLE

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__()
        self.config, dim = config, config.decoder_dim
        self.encoder = VideoMAEEncoder(config)
        self.embed = Linear(config.dim, dim, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = FixedPosition(config.num_tubelets, dim)
        self.decoder = nn.ModuleList(
            VideoMAEBlock(config, dim, config.decoder_num_heads, config.decoder_hidden_dim)
            for _ in range(config.decoder_num_layers)
        )
        self.norm = LayerNorm(dim, 1e-5)
        self.predict = Linear(dim, config.channels * config.tubelet_frames * config.patch_size**2)
        draw_by_width(self)

    def forward(self, pixel_values: Tensor, bool_masked_pos: Tensor) -> ReconstructionOutput:
        """The mean squared error over the hidden tubelets, and what was drawn of them (b, hidden, p), in their order.

        Args:
            pixel_values: (b, t, c, y, x), of the size in the config.
            bool_masked_pos: (b, tubelets), true where a tubelet is hidden: as many in each clip. See `tubes`.

        Raises:
            ValueError, TypeError: for clips of another size, shape or dtype, and for masks that do not fit.
        """
        self.encoder.check(pixel_values)
        hidden = self._checked(bool_masked_pos, len(pixel_values))
        pixels = pixel_values.to(self.encoder.patches.weight.dtype)
        x = self.embed(self.encoder.read(_pick(self.encoder.embedded(pixels), ~hidden)))
        place = self.position().to(x.dtype).expand(len(x), -1, -1)
        x = torch.cat([x + _pick(place, ~hidden), self.mask_token + _pick(place, hidden)], dim=1)
        for block in self.decoder:
            x = block(x)
        drawn: Tensor = self.predict(self.norm(x[:, int((~hidden[0]).sum()) :]))
        loss = (drawn - _pick(self.target(pixels), hidden)).square().mean()
        return ReconstructionOutput(loss, drawn)

    def target(self, pixels: Float[Tensor, "b t c y x"]) -> Float[Tensor, "b s p"]:
        """What is to be drawn of each tubelet: frame by frame, row by row, the channels of a pixel together."""
        x = self._tubelets(pixels)
        if self.config.normalized_pixels:
            x = (x - x.mean(-2, keepdim=True)) / (x.std(-2, keepdim=True) + 1e-6)
        return x.flatten(2)

    def fill_in(
        self, pixels: Float[Tensor, "b t c y x"], hidden: Bool[Tensor, "b s"], drawn: Float[Tensor, "b k p"]
    ) -> Float[Tensor, "b t c y x"]:
        """The clips with their hidden tubelets as drawn; normalised ones get the mean and spread that they had."""
        x = self._tubelets(pixels)
        new = drawn.new_zeros(*hidden.shape, drawn.shape[-1])
        new[hidden] = drawn.flatten(0, 1)
        new = new.view_as(x)
        if self.config.normalized_pixels:
            new = new * (x.std(-2, keepdim=True) + 1e-6) + x.mean(-2, keepdim=True)
        x = torch.where(hidden[..., None, None], new, x)
        (t, y, _), f, p = self.config.grid, self.config.tubelet_frames, self.config.patch_size
        filled = rearrange(x, "b (t y x) (f p q) c -> b (t f) c (y p) (x q)", t=t, y=y, f=f, p=p)
        mean, std = self._normal(pixels)
        return (filled - mean) / std

    def _tubelets(self, pixels: Float[Tensor, "b t c y x"]) -> Float[Tensor, "b s p c"]:
        """Each tubelet's pixels as they were before they were normalised."""
        mean, std = self._normal(pixels)
        f, p = self.config.tubelet_frames, self.config.patch_size
        return rearrange(pixels * std + mean, "b (t f) c (y p) (x q) -> b (t y x) (f p q) c", f=f, p=p, q=p)

    def _normal(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        of = (PIXEL_MEAN, PIXEL_STD) if self.config.channels == 3 else ((0.0,), (1.0,))
        mean, std = (pixels.new_tensor(each)[:, None, None] for each in of)
        return mean, std

    def _checked(self, mask: Tensor, batch: int) -> Bool[Tensor, "b s"]:
        expected = (batch, self.config.num_tubelets)
        if mask.dtype != torch.bool or mask.shape != expected:
            raise ValueError(f"bool_masked_pos is {mask.dtype} {tuple(mask.shape)}; expected torch.bool {expected}")
        counts = mask.sum(1)
        if not (counts == counts[0]).all() or not 0 < counts[0] < expected[1]:
            raise ValueError(
                f"bool_masked_pos hides {counts.tolist()} of {expected[1]} tubelets; expected as many of each clip, "
                "neither none nor all"
            )
        return mask

    @property
    def blocks(self) -> nn.ModuleList:
        """The encoder's blocks, then the decoder's."""
        return nn.ModuleList([*self.encoder.blocks, *self.decoder])

    @property
    def num_parameters(self) -> int:
        """Parameters of both."""
        return sum(parameter.numel() for parameter in self.parameters())


def _pick(x: Float[Tensor, "b s d"], which: Bool[Tensor, "b s"]) -> Float[Tensor, "b k d"]:
    """The tokens of each row that are marked, as many in every row."""
    return x[which].view(len(x), -1, x.shape[-1])


def tubes(
    config: VideoMAEConfig, batch: int, ratio: float = 0.9, generator: torch.Generator | None = None
) -> Bool[Tensor, "b s"]:
    """A mask that hides a share `ratio` of the places, each at all times, so that no moment shows what another hides.

    Section 3.2, "Tube masking"; ValueError for a share that leaves none to read or none to draw.
    """
    times, rows, columns = config.grid
    hidden = round(rows * columns * ratio)
    if not 0 < hidden < rows * columns:
        raise ValueError(f"ratio={ratio} of {rows * columns} places hides none of them, or all")
    order = torch.rand(batch, rows * columns, generator=generator).argsort(1).argsort(1)
    return (order < hidden).repeat(1, times)


class VideoMAEForVideoClassification(VideoClassification):
    """A linear head on the tubelets' mean, normed; or on the first tubelet."""

    config_table = config_table("VideoMAEForVideoClassification")
    table = HEAD_TABLE

    def __init__(self, config: VideoMAEConfig) -> None:
        super().__init__(VideoMAEEncoder(config), config.dim)
        self.norm = LayerNorm(config.dim, 1e-5) if config.pooling == "mean" else nn.Identity()

    def features(self, encoded: EncoderOutput) -> Float[Tensor, "b d"]:
        x = encoded.last_hidden_state
        return self.norm(x.mean(1)) if self.config.pooling == "mean" else x[:, 0]


HEADS = {"video_classification": VideoMAEForVideoClassification, "pretraining": VideoMAE}
"""Task -> class."""
