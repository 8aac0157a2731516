"""Models that read clips declare themselves."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from declaration import Declared, Inputs, Kind
from torch import Generator

from glassformer.models.timesformer import TimeSformerConfig, TimeSformerForVideoClassification
from glassformer.models.videomae import VideoMAE, VideoMAEForVideoClassification, tubes
from glassformer.models.videomae_config import VideoMAEConfig
from glassformer.models.vivit import ViViTConfig, ViViTForVideoClassification

_SHAPE: Any = dict(image_size=24, patch_size=6, dim=32, num_layers=2, num_heads=4, hidden_dim=56, num_frames=4)
_THEIRS: Any = dict(image_size=24, patch_size=6, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                    intermediate_size=56, num_frames=4)  # fmt: skip
_DECODER: Any = dict(decoder_dim=20, decoder_num_layers=2, decoder_num_heads=2, decoder_hidden_dim=28)
_THEIR_DECODER: Any = dict(decoder_hidden_size=20, decoder_num_hidden_layers=2, decoder_num_attention_heads=2,
                           decoder_intermediate_size=28)  # fmt: skip


def _clips(config: Any, batch: int, generator: Generator, wider: int = 0) -> Inputs:
    shape = (
        batch,
        config.num_frames,
        config.channels,
        config.image_size,
        config.image_size + wider * config.patch_size,
    )
    labels = torch.randint(config.num_classes, (batch,), generator=generator)
    return {"pixel_values": torch.randn(shape, generator=generator), "labels": labels}


def _wide_clips(config: Any, batch: int, generator: Generator) -> Inputs:
    """Wider than high, and not of the size that the config names."""
    return _clips(config, batch, generator, wider=2)


def _hidden(config: Any, batch: int, generator: Generator) -> Inputs:
    """Clips in which something can be foreseen: slow and smooth, with a little noise."""
    clips = _clips(config, batch, generator)["pixel_values"]
    few = torch.randn(batch, config.channels, 2, 3, 3, generator=generator)
    smooth = F.interpolate(few, size=(config.num_frames, *clips.shape[3:]), mode="trilinear").transpose(1, 2)
    return {"pixel_values": smooth + 0.1 * clips, "bool_masked_pos": tubes(config, batch, 0.7, generator)}


VIDEO = Kind("video", _clips)
ANY_SIZE = Kind("video of any size", _wide_clips)
MASKED = Kind("masked video", _hidden, labels=())
NO_LABELS = {"nothing_counted_is_no_loss": "a clip is its own label"}


def _theirs(name: str, config: str, **shape: Any) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return getattr(transformers, name)(getattr(transformers, config)(**shape))

    return make


def _timesformer(**changes: Any) -> Callable[[], Any]:
    return _theirs("TimesformerForVideoClassification", "TimesformerConfig", **_THEIRS | {"num_labels": 5} | changes)


def _averaged() -> Any:
    """Theirs of single frames gives logits of each: the published code averages the frames before the last norm."""
    import transformers
    from torch.nn.functional import cross_entropy
    from transformers.modeling_outputs import ImageClassifierOutput

    base: Any = transformers.TimesformerForVideoClassification

    def forward(self: Any, pixel_values: Any, labels: Any = None) -> Any:
        inner = self.timesformer
        x = inner.encoder(inner.embeddings(pixel_values))[0]
        x = inner.layernorm(x.unflatten(0, pixel_values.shape[:2]).mean(1))
        logits = self.classifier(x[:, 0])
        return ImageClassifierOutput(loss=None if labels is None else cross_entropy(logits, labels), logits=logits)

    config = transformers.TimesformerConfig(**_THEIRS, num_labels=5, attention_type="space_only")
    return type(base.__name__, (base,), {"forward": forward})(config)


def _vivit(**changes: Any) -> Callable[[], Any]:
    shape = {name: value for name, value in _THEIRS.items() if name != "patch_size"}
    settings = {"tubelet_size": [2, 6, 6], "num_labels": 5, **changes}
    return _theirs("VivitForVideoClassification", "VivitConfig", **shape | settings)


def _videomae(name: str = "VideoMAEForVideoClassification", **changes: Any) -> Callable[[], Any]:
    return _theirs(name, "VideoMAEConfig", **_THEIRS | _THEIR_DECODER | {"num_labels": 5} | changes)


VIDEO_MODELS = [
    Declared(
        "timesformer",
        TimeSformerForVideoClassification,
        TimeSformerConfig(**_SHAPE, num_classes=5, dropout=0.1, attention_dropout=0.1),
        _timesformer(),
        ANY_SIZE,
    ),
    Declared(
        "timesformer-joint",
        TimeSformerForVideoClassification,
        TimeSformerConfig(**_SHAPE, num_classes=5, attention="joint", attention_bias=False, channels=1, norm_eps=1e-4),
        _timesformer(attention_type="joint_space_time", qkv_bias=False, num_channels=1, layer_norm_eps=1e-4),
        ANY_SIZE,
    ),
    Declared(
        "timesformer-space",
        TimeSformerForVideoClassification,
        TimeSformerConfig(**_SHAPE, num_classes=5, attention="space"),
        _averaged,
        ANY_SIZE,
    ),
    Declared(
        "vivit",
        ViViTForVideoClassification,
        ViViTConfig(**_SHAPE, num_classes=5, dropout=0.1, attention_dropout=0.1),
        _vivit(),
        VIDEO,
    ),
    Declared(
        "vivit-unbiased",
        ViViTForVideoClassification,
        ViViTConfig(
            **_SHAPE, num_classes=5, tubelet_frames=1, attention_bias=False, activation="relu", channels=1
        ),
        _vivit(tubelet_size=[1, 6, 6], qkv_bias=False, hidden_act="relu", num_channels=1),
        VIDEO,
    ),
    Declared(
        "videomae",
        VideoMAEForVideoClassification,
        VideoMAEConfig(**_SHAPE, **_DECODER, num_classes=5, dropout=0.1, attention_dropout=0.1),
        _videomae(),
        VIDEO,
    ),
    Declared(
        "videomae-first",
        VideoMAEForVideoClassification,
        VideoMAEConfig(**_SHAPE, **_DECODER, num_classes=5, pooling="first", attention_bias=False, tubelet_frames=4),
        _videomae(use_mean_pooling=False, qv_bias=False, tubelet_size=4),
        VIDEO,
    ),
    Declared(
        "videomae-pretraining",
        VideoMAE,
        VideoMAEConfig(**_SHAPE, **_DECODER, num_classes=5, pooling="first"),
        _videomae("VideoMAEForPreTraining", use_mean_pooling=False),
        MASKED,
        NO_LABELS,
    ),
    Declared(
        "videomae-pretraining-pixels",
        VideoMAE,
        VideoMAEConfig(**_SHAPE, **_DECODER, num_classes=5, normalized_pixels=False),
        _videomae("VideoMAEForPreTraining", norm_pix_loss=False),
        MASKED,
        NO_LABELS,
    ),
]  # fmt: skip
