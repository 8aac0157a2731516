"""The classic mistakes of people who write ViT's and Swin's descendants; see `mutations.py`."""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from mutations import Patch, mistake
from torch import Tensor

from glassformer.models import deit, dinov2, dinov2_registers, mae, swinv2
from glassformer.models.outputs import DistillationOutput
from glassformer.parts import layer_scale, norm, patch, windows


@mistake("the distillation token in front of the class token", "deit")
def _(patch: Patch) -> None:
    right = deit.DeiT.hidden

    def wrong(self: deit.DeiT, pixel_values: Tensor) -> Tensor:
        self.class_token, self.distillation_token = self.distillation_token, self.class_token
        try:
            return right(self, pixel_values)
        finally:
            self.class_token, self.distillation_token = self.distillation_token, self.class_token

    patch.setattr(deit.DeiT, "hidden", wrong)


@mistake("both heads read the class token", "deit-with-teacher")
def _(patch: Patch) -> None:
    right = deit.DeiT.hidden

    def wrong(self: deit.DeiT, pixel_values: Tensor) -> Tensor:
        hidden = right(self, pixel_values)
        return torch.cat([hidden[:, :1], hidden[:, :1], hidden[:, 2:]], dim=1)

    patch.setattr(deit.DeiT, "hidden", wrong)


@mistake("the teacher is not listened to", "deit-with-teacher")
def _(patch: Patch) -> None:
    kind = deit.DeiTForImageClassificationWithTeacher
    right = kind.forward

    def wrong(self: Any, pixel_values: Tensor, labels: Any = None, teacher_labels: Any = None) -> DistillationOutput:
        return right(self, pixel_values, labels)

    patch.setattr(kind, "forward", wrong)


def _change_argsort(patch: Patch, change: Any) -> None:
    right = Tensor.argsort
    patch.setattr(Tensor, "argsort", lambda self, dim: change(right, self, dim))


@mistake("patches put back in the order of the noise, not in their own", "mae")
def _(patch: Patch) -> None:
    _change_argsort(patch, lambda right, x, dim: right(x, dim=dim) if x.is_floating_point() else x)


@mistake("the patches of the most noise are read", "mae")
def _(patch: Patch) -> None:
    _change_argsort(patch, lambda right, x, dim: right(-x if x.is_floating_point() else x, dim=dim))


@mistake("the target with the channels of a patch apart", "mae")
def _(patch: Patch) -> None:
    def wrong(x: Tensor, how: str, **sizes: int) -> Tensor:
        return rearrange(x, how.replace("(p q c)", "(c p q)"), **sizes)

    patch.setattr(mae, "rearrange", wrong)


@mistake("pixels divided by the variance, not by its root", "mae-normalized")
def _(patch: Patch) -> None:
    def wrong(self: mae.MAE, pixels: Tensor) -> Tensor:
        p = self.config.patch_size
        patches = rearrange(pixels, "b c (y p) (x q) -> b (y x) (p q c)", p=p, q=p)
        return (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6)

    patch.setattr(mae.MAE, "target", wrong)


@mistake("the decoder without positions", "mae")
def _(patch: Patch) -> None:
    def wrong(self: mae.MAEDecoder, x: Tensor, restore: Tensor) -> Tensor:
        x = self.embed(x)
        hidden = self.mask_token.expand(len(x), restore.shape[1] + 1 - x.shape[1], -1)
        patches = torch.cat([x[:, 1:], hidden], dim=1).gather(1, restore[..., None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], patches], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.predict(self.norm(x))[:, 1:]

    patch.setattr(mae.MAEDecoder, "forward", wrong)


@mistake("branches not scaled", "dinov2")
def _(patch: Patch) -> None:
    patch.setattr(layer_scale.LayerScale, "forward", lambda self, x: x + 0 * self.weight)


@mistake("the gate's weights taken for the other half's", "dinov2-gated")
def _(patch: Patch) -> None:
    right = dinov2.encoder_table

    def wrong(config: Any, theirs: str = "", ours: str = "") -> Any:
        rows = dict(right(config, theirs, ours))
        name = f"{theirs}encoder.layer.*.mlp.weights_in"
        rows[name] = dinov2.Split(f"{ours}blocks.*.feed_forward.{{up,gate}}")
        return rows

    patch.setattr(dinov2, "encoder_table", wrong)


@mistake("the head reads the mean alone, twice", "dinov2")
def _(patch: Patch) -> None:
    def wrong(self: Any, encoded: Any) -> Tensor:
        mean = encoded.last_hidden_state[:, 1:].mean(1)
        return torch.cat([mean, mean], dim=1)

    patch.setattr(dinov2.DINOv2ForImageClassification, "features", wrong)


@mistake("registers averaged with the patches", "dinov2-with-registers")
def _(patch: Patch) -> None:
    wrong = dinov2.DINOv2ForImageClassification.features
    patch.setattr(dinov2_registers.DINOv2WithRegistersForImageClassification, "features", wrong)


@mistake("positions of registers taken from the patches", "dinov2-with-registers")
def _(patch: Patch) -> None:
    def wrong(self: dinov2_registers.DINOv2WithRegisters, pixel_values: Tensor, masked: Any = None) -> Tensor:
        grid = self.patches(pixel_values)
        patches = grid.flatten(1, 2)
        tokens = [token.expand(len(grid), -1, -1) for token in (self.class_token, self.registers)]
        where = self.position(*grid.shape[1:3])
        x = torch.cat([*tokens, patches], dim=1)
        x[:, : where.shape[1]] += where
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    patch.setattr(dinov2_registers.DINOv2WithRegisters, "hidden", wrong)


@mistake("positions of a coarser grid picked, not averaged", "dinov2-with-registers")
def _(patch_: Patch) -> None:
    def wrong(x: Tensor, **options: Any) -> Tensor:
        return F.interpolate(x, **(options | {"antialias": False}))  # pyright: ignore[reportArgumentType, reportCallIssue]

    patch_.setattr(patch, "F", SimpleNamespace(interpolate=wrong, linear=F.linear))


@mistake("norms before the branches", "swinv2")
def _(patch: Patch) -> None:
    def wrong(self: swinv2.SwinV2Block, x: Tensor, *, windows: Any, mask: Any) -> Tensor:
        inside = self.attention(windows.split(self.attention_norm(x)), mask=mask, score_bias=self.bias())
        x = x + windows.join(inside)
        return x + self.feed_forward(self.feed_forward_norm(x))

    patch.setattr(swinv2.SwinV2Block, "forward", wrong)


@mistake("queries and keys not of length one", "swinv2")
def _(patch: Patch) -> None:
    patch.setattr(norm.UnitNorm, "forward", lambda self, x: x)


@mistake("the scale's logarithm taken for the scale", "swinv2")
def _(patch: Patch) -> None:
    patch.setattr(norm.ScaledUnitNorm, "forward", lambda self, x: F.normalize(x, dim=-1) * self.log_scale)


@mistake("the offsets of an earlier training forgotten", "swinv2-grown")
def _(patch: Patch) -> None:
    right = windows.ContinuousWindowBias.__init__

    def wrong(self: Any, *sizes: int, trained_size: int = 0, **options: int) -> None:
        right(self, *sizes, **options)

    patch.setattr(windows.ContinuousWindowBias, "__init__", wrong)


@mistake("offsets not spaced by their logarithm", "swinv2")
def _(patch: Patch) -> None:
    patch.setattr(Tensor, "log2", lambda self: (self - 1) * 3 / 8)


@mistake("the continuous bias of columns taken for that of rows", "swinv2")
def _(patch: Patch) -> None:
    right = torch.cartesian_prod
    patch.setattr(torch, "cartesian_prod", lambda *sides: right(*sides).flip(1))


@mistake("merged places normalised twice", "swinv2")
def _(patch: Patch) -> None:
    right = swinv2.PatchMerging.forward
    patch.setattr(swinv2.PatchMerging, "forward", lambda self, x: self.norm(right(self, x)))
