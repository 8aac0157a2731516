"""Published sizes have the published numbers of parameters, exactly, counted on the meta device."""

import pytest
import torch

from glassformer.models.catalog import CONFIGS, MODELS, create_model

COUNTS = {
    "gpt": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-7b": 6_738_415_616,
    "llama-13b": 13_015_864_320,
    "llama-33b": 32_528_943_616,
    "llama-65b": 65_285_660_672,
    "llama2-7b": 6_738_415_616,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "mistral-nemo-12b": 12_247_782_400,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "mpt-7b": 6_649_286_656,
    "mpt-30b": 29_957_200_896,
    "gemma3-270m": 268_098_176,
    "gemma3-1b": 999_885_952,
    "gemma3-4b": 3_880_263_168,
    "gemma3-12b": 11_766_034_176,
    "gemma3-27b": 27_009_346_304,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_620_634_112,
    "deepseek-v3": 671_026_404_352,
    "bert-base": 109_482_240,
    "bert-large": 335_141_888,
    "bert-base-cased": 108_310_272,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
    "xlm-roberta-base": 278_043_648,
    "xlm-roberta-large": 559_890_432,
    "distilbert-base": 66_362_880,
    "modernbert-base": 149_014_272,
    "modernbert-large": 394_781_696,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
    "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "t5-v1.1-small": 76_961_152,
    "t5-v1.1-base": 247_577_856,
    "t5-v1.1-large": 783_150_080,
    "t5-v1.1-xl": 2_849_757_184,
    "t5-v1.1-xxl": 11_135_332_352,
    "mt5-small": 300_176_768,
    "mt5-base": 582_401_280,
    "mt5-large": 1_229_581_312,
    "mt5-xl": 3_742_619_648,
    "mt5-xxl": 12_921_057_280,
    "umt5-small": 306_601_984,
    "umt5-base": 592_043_520,
    "umt5-xl": 3_768_356_864,
    "umt5-xxl": 12_972_531_712,
    "transformer-base": 63_082_496,
    "transformer-big": 214_245_376,
    "bart-base": 139_420_416,
    "bart-large": 406_291_456,
    "bart-large-cnn": 406_290_432,
    "vit-tiny-patch16-224": 5_561_472,  # without a head, with their pooler
    "vit-small-patch16-224": 21_813_504,
    "vit-base-patch16-224": 86_389_248,
    "vit-base-patch32-224": 88_045_824,
    "vit-large-patch16-224": 304_351_232,
    "vit-huge-patch14-224": 632_404_480,
    "deit-tiny-distilled-patch16-224": 5_561_856,  # without a head, with their pooler
    "deit-small-distilled-patch16-224": 21_814_272,
    "deit-base-distilled-patch16-224": 86_390_784,
    "deit-base-distilled-patch16-384": 86_682_624,
    "mae-base-patch16-224": 111_907_840,  # with the decoder and the fixed positions
    "mae-large-patch16-224": 329_541_888,
    "mae-huge-patch14-224": 657_074_508,
    "dinov2-small": 22_056_576,  # without a head, with the mask token
    "dinov2-base": 86_580_480,
    "dinov2-large": 304_368_640,
    "dinov2-giant": 1_136_480_768,
    "dinov2-with-registers-small": 22_058_112,
    "dinov2-with-registers-base": 86_583_552,
    "dinov2-with-registers-large": 304_372_736,
    "dinov2-with-registers-giant": 1_136_486_912,
    "resnet-18": 11_176_512,  # without a head
    "resnet-34": 21_284_672,
    "resnet-50": 23_508_032,
    "resnet-101": 42_500_160,
    "resnet-152": 58_143_808,
    "detr-resnet-50": 41_368_512,  # without the heads, which have 156,256; frozen norms have no parameters
    "detr-resnet-101": 60_308_416,
    "conditional-detr-resnet-50": 43_262_402,
    "conditional-detr-resnet-101": 62_202_306,
    "swin-tiny-patch4-window7-224": 27_519_354,  # without a head
    "swin-small-patch4-window7-224": 48_837_258,
    "swin-base-patch4-window7-224": 86_743_224,
    "swin-large-patch4-window7-224": 194_995_476,
    "swinv2-tiny-patch4-window8-256": 27_578_154,
    "swinv2-tiny-patch4-window16-256": 27_578_154,
    "swinv2-small-patch4-window8-256": 48_959_418,
    "swinv2-small-patch4-window16-256": 48_959_418,
    "swinv2-base-patch4-window8-256": 86_893_816,
    "swinv2-base-patch4-window16-256": 86_893_816,
    "swinv2-large-patch4-window12-192": 195_202_932,
    "swinv2-large-patch4-window12to16-192to256": 195_202_932,
    "swinv2-large-patch4-window12to24-192to384": 195_202_932,
    "segformer-b0": 3_319_392,  # without a head
    "segformer-b1": 13_151_424,
    "segformer-b2": 24_196_288,
    "segformer-b3": 44_072_128,
    "segformer-b4": 60_842_688,
    "segformer-b5": 81_443_008,
    "mask2former-swin-tiny": 47_400_826,  # without a head, and without a norm of theirs that nothing reads
    "mask2former-swin-small": 68_718_730,
    "mask2former-swin-base": 106_883_384,
    "mask2former-swin-large": 215_501_172,
    "timesformer-base": 121_258_752,  # without a head
    "timesformer-hr": 121_716_480,
    "timesformer-large": 121_326_336,
    "timesformer-base-space": 85_798_656,
    "timesformer-base-joint": 85_804_800,
    "vivit-base-patch16x2": 89_236_992,
    "vivit-large-patch16x2": 308_148_224,
    "videomae-small": 21_879_168,  # without a head or a decoder
    "videomae-base": 86_225_664,
    "videomae-large": 303_858_688,
    "videomae-huge": 631_604_480,
}


LARGE = {"deepseek-v3"}  # its fifteen thousand experts take half a minute to build, even without weights
CASES = [pytest.param(*case, marks=pytest.mark.slow if case[0] in LARGE else ()) for case in COUNTS.items()]


@pytest.mark.parametrize(("name", "count"), CASES)
def test_parameter_count_is_the_published_one(name: str, count: int) -> None:
    with torch.device("meta"):
        assert create_model(name).num_parameters == count


def test_every_size_is_counted() -> None:
    families = MODELS.keys() - COUNTS.keys()  # a family's name is its default size, counted under that size's name
    assert COUNTS.keys() == CONFIGS.keys() - families
