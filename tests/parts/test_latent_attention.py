"""Latent attention: two orders of the same products, and a cache as small as promised."""

import pytest
import torch
from declared_decoders import DECODERS
from properties import build, close
from properties_decoders import ids

from glassformer.ops.mask import Mask
from glassformer.parts import KeyValueCache, LatentAttention, Rotary

CASE = next(case for case in DECODERS if case.name == "deepseek")
SHAPE = dict(query_latent_dim=20, latent_dim=12, head_dim=10, rotary_dim=8, value_dim=14)


def test_attending_to_latents_equals_attending_to_expanded_keys_and_values_in_gradients_too() -> None:
    layer = LatentAttention(32, 4, **SHAPE).double()
    x, rotate = torch.randn(2, 9, 32, dtype=torch.float64), Rotary(8)(torch.arange(9))
    cache = KeyValueCache(1, 2, 1, 9, 12, value_dim=8, dtype=torch.float64, device="cpu")
    gradients = []
    for held in (None, cache.layers[0]):
        layer.zero_grad()
        out = layer(x, mask=Mask.causal(), rotate=rotate, cache=held)
        out.square().sum().backward()
        gradients.append([out.detach(), *(parameter.grad.clone() for parameter in layer.parameters())])
    for expanded, absorbed in zip(*gradients, strict=True):
        close(absorbed, expanded, 1e-12, "absorbed")


def test_the_cache_keeps_one_latent_and_one_rotated_key_a_token() -> None:
    model = build(CASE)
    cache = model.new_cache(3, 17)
    assert cache.num_bytes == 2 * 3 * 17 * (12 + 8) * 8  # layers, rows, tokens, numbers, bytes
    model(ids(CASE), cache=cache)
    assert cache.layers[0].key.shape == (3, 1, 17, 12)


def test_values_wider_than_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="value_dim=19 is more than head_dim"):
        LatentAttention(32, 4, **SHAPE | {"value_dim": 19})
