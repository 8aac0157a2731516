"""The classic mistakes of people who write transformers of clips; see `mutations.py`."""

from typing import Any

import torch
from einops import rearrange, repeat
from mutations import Patch, mistake
from torch import Tensor

from glassformer.models import timesformer, videomae, vivit
from glassformer.parts import FixedPosition, tubelet
from glassformer.parts.position import SinusoidalPosition


@mistake("places and times of a clip's patches exchanged", "timesformer")
def _(patch: Patch) -> None:
    def wrong(x: Tensor, how: str, **sizes: int) -> Tensor:
        return rearrange(x, how.replace("b (p t) d -> (b p) t d", "b (t p) d -> (b p) t d"), **sizes)

    patch.setattr(timesformer, "rearrange", wrong)


@mistake("each frame's class token kept, not their mean", "timesformer")
def _(patch: Patch) -> None:
    class Last(torch.Tensor):
        def mean(self, dim: Any = None, keepdim: bool = False) -> Any:  # type: ignore[override]
            return self.as_subclass(torch.Tensor)[:, -1:]

    def wrong(x: Tensor, how: str, **sizes: int) -> Tensor:
        out = rearrange(x, how, **sizes)
        return out.as_subclass(Last) if how == "(b t) 1 d -> b t d" else out

    patch.setattr(timesformer, "rearrange", wrong)


@mistake("attention along time without its own projection", "timesformer")
def _(patch: Patch) -> None:
    right = timesformer.TimeSformerBlock.along_time_and_space

    def wrong(self: Any, x: Tensor, frames: int) -> Tensor:
        kept, self.time_output = self.time_output, torch.nn.Identity()
        try:
            return right(self, x, frames)
        finally:
            self.time_output = kept

    patch.setattr(timesformer.TimeSformerBlock, "along_time_and_space", wrong)


@mistake("places interpolated with rows and columns exchanged", "timesformer-joint")
def _(patch: Patch) -> None:
    right = timesformer.TimeSformer._places
    patch.setattr(timesformer.TimeSformer, "_places", lambda self, rows, columns: right(self, columns, rows))


@mistake("the class token of the first frame alone", "timesformer")
def _(patch: Patch) -> None:
    def wrong(x: Tensor, how: str, **sizes: int) -> Tensor:
        out = repeat(x, how, **sizes).clone()
        out[1 :: sizes["t"]] = 0
        return out

    patch.setattr(timesformer, "repeat", wrong)


@mistake("pixels of a tubelet with the frame before the channel", "vivit")
def _(patch: Patch) -> None:
    def wrong(x_: Tensor, how: str, **sizes: int) -> Tensor:
        return rearrange(x_, how.replace("(c f y x)", "(f c y x)"), **sizes)

    patch.setattr(tubelet, "rearrange", wrong)


@mistake("the head reads the last tubelet, not the class token", "vivit")
def _(patch: Patch) -> None:
    patch.setattr(vivit.ViViTForVideoClassification, "features", lambda self, encoded: encoded.last_hidden_state[:, -1])


@mistake("waves: all sines first, then all cosines", "videomae")
def _(patch: Patch) -> None:
    right = SinusoidalPosition.forward

    def wrong(self: SinusoidalPosition, positions: Tensor, dtype: Any = None) -> Tensor:
        table = right(self, positions, dtype)
        return torch.cat([table[..., 0::2], table[..., 1::2]], dim=-1)

    patch.setattr(SinusoidalPosition, "forward", wrong)


@mistake("the norm before the mean, not after it", "videomae")
def _(patch: Patch) -> None:
    def wrong(self: Any, encoded: Any) -> Tensor:
        return self.norm(encoded.last_hidden_state).mean(1)

    patch.setattr(videomae.VideoMAEForVideoClassification, "features", wrong)


@mistake("what is hidden has no place", "videomae-pretraining")
def _(patch: Patch) -> None:
    patch.setattr(FixedPosition, "forward", lambda self: torch.zeros_like(self.weight))


@mistake("the spread of a whole tubelet, not of each channel", "videomae-pretraining")
def _(patch: Patch) -> None:
    def wrong(self: Any, pixels: Tensor) -> Tensor:
        x = self._tubelets(pixels).flatten(2)
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6)

    patch.setattr(videomae.VideoMAE, "target", wrong)


@mistake("targets as they were normalised, not as they were", "videomae-pretraining-pixels")
def _(patch: Patch) -> None:
    patch.setattr(videomae, "PIXEL_MEAN", (0.0, 0.0, 0.0))


@mistake("pixels of a target with the channel first", "videomae-pretraining")
def _(patch: Patch) -> None:
    def wrong(self: Any, pixels: Tensor) -> Tensor:
        x = self._tubelets(pixels)
        return ((x - x.mean(-2, keepdim=True)) / (x.std(-2, keepdim=True) + 1e-6)).transpose(2, 3).flatten(2)

    patch.setattr(videomae.VideoMAE, "target", wrong)
