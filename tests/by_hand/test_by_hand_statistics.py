"""What is said of scale, depth and size holds of the numbers: slopes and orders, from seeds."""

import numpy as np
import pytest

from glassformer.by_hand import statistics
from glassformer.by_hand.models.bert import BERT, BERTConfig
from glassformer.by_hand.models.gpt2 import GPT2, GPT2Config
from glassformer.by_hand.models.llama import Llama, LlamaConfig
from glassformer.by_hand.models.t5 import T5, T5Config
from glassformer.by_hand.models.transformer import TokenTransformer, TransformerConfig

WIDTHS = [4, 16, 64, 256]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_variance_of_a_score_is_the_width_of_the_head(seed):
    found = statistics.dot_product_variance(WIDTHS, seed=seed)
    slope = np.polyfit(np.log(WIDTHS), np.log(found), 1)[0]
    assert slope == pytest.approx(1, abs=0.05)
    assert found == pytest.approx(WIDTHS, rel=0.15)


def test_unscaled_scores_make_softmax_one_hot_and_its_gradient_vanish():
    plain = statistics.softmax_sharpness([1, *WIDTHS, 1024], scaled=False)
    assert (np.diff(plain.entropy) < 0).all()
    assert plain.entropy[0] > 3  # of log 64 = 4.16
    assert plain.entropy[-1] < 0.3
    assert (np.diff(plain.gradient[2:]) < 0).all()
    assert plain.gradient[-1] < 0.3 * plain.gradient.max()


def test_scaled_scores_keep_entropy_and_gradient_at_every_width():
    scaled = statistics.softmax_sharpness(WIDTHS, scaled=True)
    assert np.ptp(scaled.entropy) < 0.2
    assert scaled.entropy == pytest.approx(np.log(64) - 0.5, abs=0.15)  # scores of variance 1: log n − σ²/2
    assert np.ptp(scaled.gradient) < 0.3 * scaled.gradient.mean()


def test_the_jacobians_size_is_that_of_the_matrix():
    random = np.random.default_rng(0)
    q, k = random.standard_normal((1, 3)), random.standard_normal((1, 5, 3))
    scores = (q[:, None] * k).sum(-1)[0]
    weights = np.exp(scores) / np.exp(scores).sum()
    found = statistics.softmax_sharpness([3], scaled=False, keys=5, samples=1, seed=0)
    assert found.gradient[0] == pytest.approx(np.linalg.norm(np.diag(weights) - np.outer(weights, weights)))


def slope(norms):
    """Of the logarithm, over blocks: how many e-folds a gradient gains on its way back through a block."""
    return -np.polyfit(range(len(norms)), np.log(norms), 1)[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_without_residual_sums_gradients_vanish_exponentially_with_depth(seed):
    found = {wiring: statistics.gradient_norms(12, wiring, seed=seed) for wiring in statistics.WIRINGS}
    assert all(len(norms) == 13 and np.isfinite(norms).all() for norms in found.values())
    ends = [norms[-1] for norms in found.values()]
    assert max(ends) < 1.5 * min(ends)  # the same gradient is sent into each
    assert slope(found["no residual"]) < -0.3  # a third is lost in each block
    assert abs(slope(found["pre-norm"])) < 0.3
    assert abs(slope(found["post-norm"])) < 0.3
    assert found["no residual"][0] < 0.05 * found["pre-norm"][0]
    assert found["no residual"][0] < 0.05 * found["post-norm"][0]


def test_an_unknown_wiring_is_refused():
    with pytest.raises(ValueError, match="wiring is 'sandwich'; expected one of pre-norm"):
        statistics.gradient_norms(2, "sandwich")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_attention_alone_loses_its_rank_doubly_exponentially_and_a_skip_keeps_it(seed):
    alone, kept = statistics.rank_residuals(8, seed=seed), statistics.rank_residuals(8, skip=True, seed=seed)
    assert alone[0] == kept[0] > 0.9
    assert (np.diff(alone[:6]) < 0).all()
    assert alone[6] < 1e-9
    assert kept.min() > 0.3
    drops = np.diff(np.log(alone[:6]))
    assert (np.diff(drops) < 0).all()  # each layer takes more than the one before: faster than exponentially


SMALL = [
    (GPT2, GPT2Config(vocab_size=50, max_positions=16, dim=24, num_layers=3, num_heads=4)),
    (GPT2, GPT2Config(vocab_size=50, max_positions=16, dim=24, num_layers=3, num_heads=4, hidden_dim=40, tied=False)),
    (BERT, BERTConfig(vocab_size=50, max_positions=16, dim=24, num_layers=2, num_heads=4, hidden_dim=40)),
    (Llama, LlamaConfig(vocab_size=50, dim=24, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, hidden_dim=40)),
    (Llama, LlamaConfig(vocab_size=50, dim=24, num_layers=2, num_heads=4, hidden_dim=40, tied=True,
                        attention_bias=True, feed_forward_bias=True)),
    (TokenTransformer, TransformerConfig(vocab_size=50, dim=24, num_encoder_layers=2, num_decoder_layers=3,
                                         num_heads=4, hidden_dim=40)),
    (T5, T5Config(vocab_size=50, dim=24, num_encoder_layers=2, num_decoder_layers=3, num_heads=4, head_dim=5,
                  hidden_dim=40)),
    (T5, T5Config(vocab_size=50, dim=24, num_encoder_layers=2, num_heads=4, hidden_dim=40, feed_forward="gated-gelu",
                  bias_per_layer=True, tied=False)),
]  # fmt: skip


@pytest.mark.parametrize(("model", "config"), SMALL)
def test_the_formulas_count_every_parameter_of_the_real_models(model, config):
    built = model(config, seed=None)
    table = statistics.parameter_table(config)
    assert sum(table.values()) == statistics.num_parameters(config) == built.num_parameters
    spent = sum(
        p.data.size for name, p in built.named_parameters() if ".attention." in name or "cross_attention." in name
    )
    assert table["attention"] == spent


def test_published_sizes_come_out():
    assert statistics.num_parameters(GPT2Config()) == 124_439_808
    assert statistics.num_parameters(BERTConfig()) == 109_482_240
    assert statistics.num_parameters(LlamaConfig()) == 6_738_415_616
    with pytest.raises(TypeError, match="dict has no formula; expected one of GPT2Config"):
        statistics.num_parameters({})
