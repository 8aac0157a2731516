"""Models, one file per paper. Names load on first use (PEP 562)."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassformer.models.bart import BART, BARTConfig
    from glassformer.models.bart_heads import BARTForSequenceClassification
    from glassformer.models.bert import BERT, BERTConfig
    from glassformer.models.bert_heads import (
        BERTForMaskedLM,
        BERTForNextSentencePrediction,
        BERTForPreTraining,
        BERTForQuestionAnswering,
        BERTForSequenceClassification,
        BERTForTokenClassification,
    )
    from glassformer.models.bigram import Bigram, BigramConfig
    from glassformer.models.catalog import (
        ARCHITECTURES,
        CONFIGS,
        HEADS,
        MODELS,
        create_model,
        from_pretrained,
        model_config,
    )
    from glassformer.models.conditional_detr import (
        ConditionalDETR,
        ConditionalDETRConfig,
        ConditionalDETRForObjectDetection,
    )
    from glassformer.models.deepseek import DeepSeek, DeepSeekConfig
    from glassformer.models.deit import (
        DeiT,
        DeiTConfig,
        DeiTForImageClassification,
        DeiTForImageClassificationWithTeacher,
    )
    from glassformer.models.detr import DETR, DETRConfig, DETRForObjectDetection
    from glassformer.models.dinov2 import DINOv2, DINOv2Config, DINOv2ForImageClassification
    from glassformer.models.dinov2_registers import (
        DINOv2WithRegisters,
        DINOv2WithRegistersConfig,
        DINOv2WithRegistersForImageClassification,
    )
    from glassformer.models.distilbert import (
        DistilBERT,
        DistilBERTConfig,
        DistilBERTForMaskedLM,
        DistilBERTForQuestionAnswering,
        DistilBERTForSequenceClassification,
        DistilBERTForTokenClassification,
    )
    from glassformer.models.gemma3 import Gemma3, Gemma3Config
    from glassformer.models.gpt import GPT, GPTConfig
    from glassformer.models.gpt2 import GPT2, GPT2Config
    from glassformer.models.language_model import LanguageModel
    from glassformer.models.llama import Llama, LlamaConfig
    from glassformer.models.mae import MAE, MAEConfig
    from glassformer.models.mask2former import Mask2Former, Mask2FormerForUniversalSegmentation
    from glassformer.models.mask2former_config import Mask2FormerConfig
    from glassformer.models.mistral import Mistral, MistralConfig
    from glassformer.models.mixtral import Mixtral, MixtralConfig
    from glassformer.models.modernbert import (
        ModernBERT,
        ModernBERTConfig,
    )
    from glassformer.models.modernbert_heads import (
        ModernBERTForMaskedLM,
        ModernBERTForQuestionAnswering,
        ModernBERTForSequenceClassification,
        ModernBERTForTokenClassification,
    )
    from glassformer.models.mpt import MPT, MPTConfig
    from glassformer.models.outputs import CausalLMOutput
    from glassformer.models.qwen3 import Qwen3, Qwen3Config
    from glassformer.models.resnet import ResNet, ResNetConfig, ResNetForImageClassification
    from glassformer.models.roberta import (
        RoBERTa,
        RoBERTaConfig,
        RoBERTaForMaskedLM,
        RoBERTaForQuestionAnswering,
        RoBERTaForSequenceClassification,
        RoBERTaForTokenClassification,
    )
    from glassformer.models.segformer import SegFormer, SegFormerConfig
    from glassformer.models.segformer_heads import SegFormerForImageClassification, SegFormerForSemanticSegmentation
    from glassformer.models.sequence_to_sequence import SequenceToSequenceModel
    from glassformer.models.swin import Swin, SwinConfig, SwinForImageClassification
    from glassformer.models.swinv2 import SwinV2, SwinV2Config, SwinV2ForImageClassification
    from glassformer.models.t5 import T5
    from glassformer.models.t5_config import T5Config
    from glassformer.models.timesformer import TimeSformer, TimeSformerConfig, TimeSformerForVideoClassification
    from glassformer.models.transformer import TokenTransformer, TransformerConfig
    from glassformer.models.videomae import VideoMAE, VideoMAEEncoder, VideoMAEForVideoClassification
    from glassformer.models.videomae_config import VideoMAEConfig
    from glassformer.models.vit import ViT, ViTConfig, ViTForImageClassification
    from glassformer.models.vivit import ViViT, ViViTConfig, ViViTForVideoClassification

__all__ = [
    "ARCHITECTURES",
    "BART",
    "BERT",
    "CONFIGS",
    "DETR",
    "GPT",
    "GPT2",
    "HEADS",
    "MAE",
    "MODELS",
    "MPT",
    "T5",
    "BARTConfig",
    "BARTForSequenceClassification",
    "BERTConfig",
    "BERTForMaskedLM",
    "BERTForNextSentencePrediction",
    "BERTForPreTraining",
    "BERTForQuestionAnswering",
    "BERTForSequenceClassification",
    "BERTForTokenClassification",
    "Bigram",
    "BigramConfig",
    "CausalLMOutput",
    "ConditionalDETR",
    "ConditionalDETRConfig",
    "ConditionalDETRForObjectDetection",
    "DETRConfig",
    "DETRForObjectDetection",
    "DINOv2",
    "DINOv2Config",
    "DINOv2ForImageClassification",
    "DINOv2WithRegisters",
    "DINOv2WithRegistersConfig",
    "DINOv2WithRegistersForImageClassification",
    "DeepSeek",
    "DeepSeekConfig",
    "DeiT",
    "DeiTConfig",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
    "DistilBERT",
    "DistilBERTConfig",
    "DistilBERTForMaskedLM",
    "DistilBERTForQuestionAnswering",
    "DistilBERTForSequenceClassification",
    "DistilBERTForTokenClassification",
    "GPT2Config",
    "GPTConfig",
    "Gemma3",
    "Gemma3Config",
    "LanguageModel",
    "Llama",
    "LlamaConfig",
    "MAEConfig",
    "MPTConfig",
    "Mask2Former",
    "Mask2FormerConfig",
    "Mask2FormerForUniversalSegmentation",
    "Mistral",
    "MistralConfig",
    "Mixtral",
    "MixtralConfig",
    "ModernBERT",
    "ModernBERTConfig",
    "ModernBERTForMaskedLM",
    "ModernBERTForQuestionAnswering",
    "ModernBERTForSequenceClassification",
    "ModernBERTForTokenClassification",
    "Qwen3",
    "Qwen3Config",
    "ResNet",
    "ResNetConfig",
    "ResNetForImageClassification",
    "RoBERTa",
    "RoBERTaConfig",
    "RoBERTaForMaskedLM",
    "RoBERTaForQuestionAnswering",
    "RoBERTaForSequenceClassification",
    "RoBERTaForTokenClassification",
    "SegFormer",
    "SegFormerConfig",
    "SegFormerForImageClassification",
    "SegFormerForSemanticSegmentation",
    "SequenceToSequenceModel",
    "Swin",
    "SwinConfig",
    "SwinForImageClassification",
    "SwinV2",
    "SwinV2Config",
    "SwinV2ForImageClassification",
    "T5Config",
    "TimeSformer",
    "TimeSformerConfig",
    "TimeSformerForVideoClassification",
    "TokenTransformer",
    "TransformerConfig",
    "ViT",
    "ViTConfig",
    "ViTForImageClassification",
    "ViViT",
    "ViViTConfig",
    "ViViTForVideoClassification",
    "VideoMAE",
    "VideoMAEConfig",
    "VideoMAEEncoder",
    "VideoMAEForVideoClassification",
    "create_model",
    "from_pretrained",
    "model_config",
]

_HOMES = {
    name: home
    for home, names in {
        "bart": "BART BARTConfig",
        "bart_heads": "BARTForSequenceClassification",
        "sequence_to_sequence": "SequenceToSequenceModel",
        "t5": "T5",
        "t5_config": "T5Config",
        "transformer": "TokenTransformer TransformerConfig",
        "roberta": (
            "RoBERTa RoBERTaConfig RoBERTaForMaskedLM RoBERTaForQuestionAnswering "
            "RoBERTaForSequenceClassification RoBERTaForTokenClassification"
        ),
        "modernbert_heads": (
            "ModernBERTForMaskedLM ModernBERTForQuestionAnswering ModernBERTForSequenceClassification "
            "ModernBERTForTokenClassification"
        ),
        "modernbert": "ModernBERT ModernBERTConfig",
        "distilbert": (
            "DistilBERT DistilBERTConfig DistilBERTForMaskedLM DistilBERTForQuestionAnswering "
            "DistilBERTForSequenceClassification DistilBERTForTokenClassification"
        ),
        "bert": "BERT BERTConfig",
        "bert_heads": (
            "BERTForMaskedLM BERTForNextSentencePrediction BERTForPreTraining BERTForQuestionAnswering "
            "BERTForSequenceClassification BERTForTokenClassification"
        ),
        "resnet": "ResNet ResNetConfig ResNetForImageClassification",
        "detr": "DETR DETRConfig DETRForObjectDetection",
        "conditional_detr": "ConditionalDETR ConditionalDETRConfig ConditionalDETRForObjectDetection",
        "bigram": "Bigram BigramConfig",
        "catalog": "ARCHITECTURES CONFIGS HEADS MODELS create_model from_pretrained model_config",
        "gpt": "GPT GPTConfig",
        "gpt2": "GPT2 GPT2Config",
        "outputs": "CausalLMOutput",
        "language_model": "LanguageModel",
        "llama": "Llama LlamaConfig",
        "mistral": "Mistral MistralConfig",
        "qwen3": "Qwen3 Qwen3Config",
        "mpt": "MPT MPTConfig",
        "gemma3": "Gemma3 Gemma3Config",
        "mixtral": "Mixtral MixtralConfig",
        "deepseek": "DeepSeek DeepSeekConfig",
        "vit": "ViT ViTConfig ViTForImageClassification",
        "mae": "MAE MAEConfig",
        "swinv2": "SwinV2 SwinV2Config SwinV2ForImageClassification",
        "dinov2": "DINOv2 DINOv2Config DINOv2ForImageClassification",
        "dinov2_registers": "DINOv2WithRegisters DINOv2WithRegistersConfig DINOv2WithRegistersForImageClassification",
        "deit": "DeiT DeiTConfig DeiTForImageClassification DeiTForImageClassificationWithTeacher",
        "mask2former": "Mask2Former Mask2FormerForUniversalSegmentation",
        "mask2former_config": "Mask2FormerConfig",
        "segformer": "SegFormer SegFormerConfig",
        "segformer_heads": "SegFormerForImageClassification SegFormerForSemanticSegmentation",
        "swin": "Swin SwinConfig SwinForImageClassification",
        "timesformer": "TimeSformer TimeSformerConfig TimeSformerForVideoClassification",
        "vivit": "ViViT ViViTConfig ViViTForVideoClassification",
        "videomae": "VideoMAE VideoMAEEncoder VideoMAEForVideoClassification",
        "videomae_config": "VideoMAEConfig",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
