"""Every model by name: families, published sizes, and the class that opens a folder."""

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import torch

from glassformer.checkpoints.pretrained import Pretrained, load_folder
from glassformer.foundation.suggest import did_you_mean
from glassformer.models import (
    bart,
    bart_heads,
    bert,
    bert_heads,
    conditional_detr,
    deepseek,
    deit,
    detr,
    dinov2,
    dinov2_registers,
    distilbert,
    gemma3,
    gpt,
    gpt2,
    llama,
    mae,
    mask2former,
    mask2former_config,
    mistral,
    mixtral,
    modernbert,
    modernbert_heads,
    mpt,
    qwen3,
    resnet,
    roberta,
    segformer,
    segformer_heads,
    swin,
    swinv2,
    t5,
    t5_config,
    timesformer,
    transformer,
    videomae,
    videomae_config,
    vit,
    vivit,
)
from glassformer.models.bigram import Bigram, BigramConfig

MODELS: dict[str, type[Pretrained]] = {
    "bigram": Bigram,
    "gpt": gpt.GPT,
    "gpt2": gpt2.GPT2,
    "llama": llama.Llama,
    "mistral": mistral.Mistral,
    "qwen3": qwen3.Qwen3,
    "mpt": mpt.MPT,
    "gemma3": gemma3.Gemma3,
    "mixtral": mixtral.Mixtral,
    "deepseek": deepseek.DeepSeek,
    "bert": bert.BERT,
    "roberta": roberta.RoBERTa,
    "distilbert": distilbert.DistilBERT,
    "modernbert": modernbert.ModernBERT,
    "t5": t5.T5,
    "transformer": transformer.TokenTransformer,
    "bart": bart.BART,
    "vit": vit.ViT,
    "deit": deit.DeiT,
    "mae": mae.MAE,
    "dinov2": dinov2.DINOv2,
    "dinov2-with-registers": dinov2_registers.DINOv2WithRegisters,
    "resnet": resnet.ResNet,
    "detr": detr.DETR,
    "conditional_detr": conditional_detr.ConditionalDETR,
    "swin": swin.Swin,
    "swinv2": swinv2.SwinV2,
    "segformer": segformer.SegFormer,
    "mask2former": mask2former.Mask2Former,
    "timesformer": timesformer.TimeSformer,
    "vivit": vivit.ViViT,
    "videomae": videomae.VideoMAEEncoder,
}
"""Family -> class."""

HEADS: Mapping[str, Mapping[str, type[Pretrained]]] = {
    "bert": bert_heads.HEADS,
    "bart": bart_heads.HEADS,
    "roberta": roberta.HEADS,
    "distilbert": distilbert.HEADS,
    "modernbert": modernbert_heads.HEADS,
    "vit": vit.HEADS,
    "deit": deit.HEADS,
    "mae": mae.HEADS,
    "dinov2": dinov2.HEADS,
    "dinov2-with-registers": dinov2_registers.HEADS,
    "resnet": resnet.HEADS,
    "detr": detr.HEADS,
    "conditional_detr": conditional_detr.HEADS,
    "swin": swin.HEADS,
    "swinv2": swinv2.HEADS,
    "segformer": segformer_heads.HEADS,
    "mask2former": mask2former.HEADS,
    "timesformer": timesformer.HEADS,
    "vivit": vivit.HEADS,
    "videomae": videomae.HEADS,
}
"""Family of encoders -> task -> class."""

CONFIGS: dict[str, Any] = {
    "bigram": BigramConfig(),
    **gpt.SIZES,
    **gpt2.SIZES,
    "llama": llama.LlamaConfig(),
    **llama.SIZES,
    "mistral": mistral.MistralConfig(),
    **mistral.SIZES,
    "qwen3": qwen3.Qwen3Config(),
    **qwen3.SIZES,
    "mpt": mpt.MPTConfig(),
    **mpt.SIZES,
    "gemma3": gemma3.Gemma3Config(),
    **gemma3.SIZES,
    "mixtral": mixtral.MixtralConfig(),
    **mixtral.SIZES,
    "deepseek": deepseek.DeepSeekConfig(),
    **deepseek.SIZES,
    "bert": bert.BERTConfig(),
    **bert.SIZES,
    "roberta": roberta.RoBERTaConfig(),
    **roberta.SIZES,
    "distilbert": distilbert.DistilBERTConfig(),
    **distilbert.SIZES,
    "modernbert": modernbert.ModernBERTConfig(),
    **modernbert.SIZES,
    "t5": t5_config.T5Config(),
    **t5_config.SIZES,
    "transformer": transformer.TransformerConfig(),
    **transformer.SIZES,
    "bart": bart.BARTConfig(),
    **bart.SIZES,
    "vit": vit.ViTConfig(),
    **vit.SIZES,
    "deit": deit.DeiTConfig(),
    **deit.SIZES,
    "mae": mae.MAEConfig(),
    **mae.SIZES,
    "dinov2": dinov2.DINOv2Config(),
    **dinov2.SIZES,
    "dinov2-with-registers": dinov2_registers.DINOv2WithRegistersConfig(),
    **dinov2_registers.SIZES,
    "resnet": resnet.ResNetConfig(),
    **resnet.SIZES,
    "detr": detr.DETRConfig(),
    **detr.SIZES,
    "conditional_detr": conditional_detr.ConditionalDETRConfig(),
    **conditional_detr.SIZES,
    "swin": swin.SwinConfig(),
    **swin.SIZES,
    "swinv2": swinv2.SwinV2Config(),
    **swinv2.SIZES,
    "segformer": segformer.SegFormerConfig(),
    **segformer.SIZES,
    "mask2former": mask2former_config.Mask2FormerConfig(),
    **mask2former_config.SIZES,
    "timesformer": timesformer.TimeSformerConfig(),
    **timesformer.SIZES,
    "vivit": vivit.ViViTConfig(),
    **vivit.SIZES,
    "videomae": videomae_config.VideoMAEConfig(),
    **videomae_config.SIZES,
}
"""Name of a size, or of a family for its default -> config."""

CLASSES = tuple(dict.fromkeys((*MODELS.values(), *(head for heads in HEADS.values() for head in heads.values()))))
ARCHITECTURES = {name: model for model in CLASSES for name in model.config_table.architectures}
"""What a folder's `config.json` calls its `architectures` -> the class that opens it."""

_FAMILIES = {model.config_table.config: family for family, model in MODELS.items()}


def model_config(name: str, **changes: Any) -> Any:
    """The config of a published size, with `changes` made to it.

    Raises:
        ValueError: no such size. TypeError: no such setting; each with the nearest that there is.
    """
    if name not in CONFIGS:
        raise ValueError(f"there is no model {name!r}{did_you_mean(name, CONFIGS)}")
    return changed(CONFIGS[name], changes)


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """The config with other settings. Raises TypeError for one that it has not, with the nearest that there is."""
    known = [field.name for field in fields(config)]
    for setting in changes:
        if setting not in known:
            raise TypeError(f"{type(config).__name__} has no setting {setting!r}{did_you_mean(setting, known)}")
    return replace(config, **changes)


def create_model(name: str, *, head: str | None = None, **changes: Any) -> Any:
    """A model of a published size, its weights drawn anew; `changes` are settings of its config.

    >>> create_model("gpt2-medium", max_positions=2048).num_parameters
    >>> create_model("bert-base", head="sequence_classification", labels=("negative", "positive"))

    Raises what `model_config` and `build` raise.
    """
    return build(model_config(name, **changes), head=head)


def build(config: Any, *, head: str | None = None) -> Any:
    """The model whose config this is, an encoder with the head for a task where one is named.

    Raises what `family_of` raises, and ValueError for a head that the family has not.
    """
    family = family_of(config)
    heads = HEADS.get(family, {})
    if head is not None and head not in heads:
        raise ValueError(f"{family!r} has no head {head!r}{did_you_mean(head, heads) if heads else ', nor any other'}")
    make: Any = MODELS[family] if head is None else heads[head]
    return make(config)


def family_of(config: Any) -> str:
    """The name of a config's family, as in `MODELS`. Raises TypeError for what is no model's config."""
    if type(config) not in _FAMILIES:
        known = ", ".join(kind.__name__ for kind in _FAMILIES)
        raise TypeError(f"{type(config).__name__} is no model's config; expected one of {known}")
    return _FAMILIES[type(config)]


def from_pretrained(
    path_or_id: str | os.PathLike[str],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    allow_nonfinite: bool = False,
) -> Any:
    """The model of a Hugging Face folder or hub id, its class picked by the folder's `architectures`.

    Arguments and errors are those of `Pretrained.from_pretrained`.
    """
    return load_folder(path_or_id, ARCHITECTURES, dtype=dtype, device=device, allow_nonfinite=allow_nonfinite)
