"""Published sizes have the published numbers of parameters, exactly, counted on the meta device."""

import pytest
import torch

from glassformer.models.gpt import GPT, GPTConfig
from glassformer.models.gpt2 import GPT2
from glassformer.models.gpt2 import SIZES as GPT2_SIZES
from glassformer.models.llama import SIZES as LLAMA_SIZES
from glassformer.models.llama import Llama

COUNTS = {
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
}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_count_is_the_published_one(name: str, count: int) -> None:
    with torch.device("meta"):
        model = GPT2(GPT2_SIZES[name]) if name in GPT2_SIZES else Llama(LLAMA_SIZES[name])
    assert model.num_parameters == count


def test_every_size_is_counted() -> None:
    assert COUNTS.keys() == GPT2_SIZES.keys() | LLAMA_SIZES.keys()


def test_gpt_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert GPT(GPTConfig()).num_parameters == 116_534_784
