"""Every import and call that was asked for works as it was written, with this package's name."""

from typing import Any

import pytest
import torch
from torch import Tensor

import glassformer.advanced
from glassformer.advanced import (
    BERTForMaskedLM,
    BERTForSequenceClassification,
    BERTModel,
    GPTModel,
    SwinTransformer,
    T5Model,
    VisionTransformer,
    bert_base,
    bert_large,
    gpt2_large,
    gpt2_medium,
    gpt2_small,
    gpt2_xl,
    gpt_small,
    swin_base_patch4_window7_224,
    swin_large_patch4_window7_224,
    swin_small_patch4_window7_224,
    swin_tiny_patch4_window7_224,
    t5_base,
    t5_large,
    t5_small,
    t5_xl,
    vit_base_patch16_224,
    vit_base_patch32_224,
    vit_huge_patch14_224,
    vit_large_patch16_224,
    vit_small_patch16_224,
    vit_tiny_patch16_224,
)
from glassformer.advanced.attention_mechanisms import (
    CrossAttention,
    GroupedQueryAttention,
    LinearAttention,
    MultiQueryAttention,
    RotaryPositionalEmbedding,
    SlidingWindowAttention,
    apply_rotary_pos_emb,
)
from glassformer.models import GPT
from glassformer.parts import Rotary
from glassformer.transformer import Transformer

BERT = dict(vocab_size=50, max_positions=16, dim=24, num_layers=2, num_heads=3, hidden_dim=40)


def ids(*shape: int, vocab_size: int = 50) -> Tensor:
    return torch.randint(vocab_size, shape)


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "count"),
    [
        (vit_tiny_patch16_224, VisionTransformer, 5_717_416),
        (vit_small_patch16_224, VisionTransformer, 22_050_664),
        (vit_base_patch16_224, VisionTransformer, 86_567_656),
        (vit_base_patch32_224, VisionTransformer, 88_224_232),
        (vit_large_patch16_224, VisionTransformer, 304_326_632),
        (vit_huge_patch14_224, VisionTransformer, 632_045_800),
        (swin_tiny_patch4_window7_224, SwinTransformer, 28_288_354),
        (swin_small_patch4_window7_224, SwinTransformer, 49_606_258),
        (swin_base_patch4_window7_224, SwinTransformer, 87_768_224),
        (swin_large_patch4_window7_224, SwinTransformer, 196_532_476),
        (bert_base, BERTModel, 109_482_240),
        (bert_large, BERTModel, 335_141_888),
        (gpt_small, GPT, 116_534_784),
        (gpt2_small, GPTModel, 124_439_808),
        (gpt2_medium, GPTModel, 354_823_168),
        (gpt2_large, GPTModel, 774_030_080),
        (gpt2_xl, GPTModel, 1_557_611_200),
        (t5_small, T5Model, 60_506_624),
        (t5_base, T5Model, 222_903_552),
        (t5_large, T5Model, 737_668_096),
        (t5_xl, T5Model, 2_851_598_336),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_name_builds_the_published_size(make: Any, kind: type, count: int) -> None:
    with torch.device("meta"):
        model = make()
    assert isinstance(model, kind)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_vit_gives_logits_features_and_attention_maps() -> None:
    vit = vit_tiny_patch16_224(num_classes=10, image_size=64, num_layers=3).eval()
    images = torch.randn(2, 3, 64, 64)
    logits, features = vit(images), vit(images, return_features=True)
    assert logits.shape == (2, 10)
    assert features.shape == (2, 192)
    assert torch.equal(vit.model.head(features), logits)
    maps = [vit.get_attention_maps(images, block_idx=i) for i in range(3)]
    for weights in maps:
        assert weights.shape == (2, 3, 17, 17)
        assert torch.allclose(weights.sum(-1), torch.ones(2, 3, 17))
    assert torch.equal(vit.get_attention_maps(images), maps[-1])
    assert not torch.equal(maps[0], maps[1])
    with pytest.raises(IndexError, match="block_idx=3 is none of the 3 blocks"):
        vit.get_attention_maps(images, block_idx=3)


def test_classes_take_settings_of_their_configs() -> None:
    vit = VisionTransformer(
        image_size=16, patch_size=4, dim=32, num_layers=1, num_heads=4, hidden_dim=64, num_classes=3
    )
    assert vit(torch.randn(1, 3, 16, 16)).shape == (1, 3)
    with pytest.raises(TypeError, match=r"ViTConfig has no setting 'num_clases' \(did you mean 'num_classes'\?\)"):
        vit_base_patch16_224(num_clases=10)
    with pytest.raises(TypeError, match="SwinConfig has no setting 'embed'"):
        SwinTransformer(embed=3)


def test_swin_gives_logits_features_and_attention_maps() -> None:
    swin = swin_tiny_patch4_window7_224(num_classes=10, depths=(2, 1), num_heads=(3, 6)).eval()
    images = torch.randn(2, 3, 56, 56)
    assert swin(images).shape == (2, 10)
    assert swin(images, return_features=True).shape == (2, 192)
    assert swin.get_attention_maps(images, block_idx=0).shape == (2 * 4, 3, 49, 49)
    assert swin.get_attention_maps(images).shape == (2, 6, 49, 49)


# -- text --------------------------------------------------------------------------------------------------------------


def test_bert_gives_sequence_pooled_and_attention() -> None:
    bert = bert_base(**BERT).eval()
    input_ids = ids(2, 7)
    sequence_output, pooled_output, attn_probs = bert(input_ids)
    assert sequence_output.shape == (2, 7, 24)
    assert pooled_output.shape == (2, 24)
    assert [weights.shape for weights in attn_probs] == [(2, 3, 7, 7)] * 2
    assert all(torch.allclose(weights.sum(-1), torch.ones(2, 3, 7)) for weights in attn_probs)
    expected = bert.model(input_ids)
    assert torch.allclose(sequence_output, expected.last_hidden_state, atol=1e-5)
    assert torch.allclose(pooled_output, expected.pooler_output, atol=1e-5)
    present = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    out = bert(input_ids, present)
    assert (out["attention_probs"][0][1, :, :, 4:] == 0).all()
    sum(weights.square().sum() for weights in out.attention_probs).backward()
    assert bert.model.blocks[0].attention.query.weight.grad.abs().max() > 0
    assert all(block.attention.kernel.__name__ == "auto" for block in bert.model.blocks), "kernels are put back"


def test_bert_fills_masks() -> None:
    mlm = BERTForMaskedLM(**BERT).eval()
    input_ids, labels = ids(2, 7), ids(2, 7)
    labels[:, 3:] = -100
    out = mlm(input_ids, masked_lm_labels=labels)
    expected = torch.nn.functional.cross_entropy(out["logits"][:, :3].flatten(0, 1), labels[:, :3].flatten())
    assert out["logits"].shape == (2, 7, 50)
    assert torch.allclose(out["loss"], expected)
    assert mlm(input_ids)["loss"] is None


def test_bert_classifies() -> None:
    model = BERTForSequenceClassification(num_labels=2, **BERT).eval()
    input_ids, labels = ids(3, 7), torch.tensor([0, 1, 1])
    out = model(input_ids, labels=labels)
    assert out["logits"].shape == (3, 2)
    assert torch.allclose(out["loss"], torch.nn.functional.cross_entropy(out["logits"], labels))
    loss, logits = out
    assert loss is out.loss
    assert logits is out.logits
    assert BERTForSequenceClassification(num_labels=5, **BERT)(input_ids)["logits"].shape == (3, 5)
    with pytest.raises(ValueError, match="num_labels=0 leaves nothing to tell apart"):
        BERTForSequenceClassification(num_labels=0)
    with pytest.raises(KeyError, match="PredictionOutput has no 'los'"):
        out["los"]


def test_without_settings_the_heads_stand_on_bert_base() -> None:
    with torch.device("meta"):
        assert BERTForSequenceClassification(num_labels=2).model.num_parameters == 109_483_778
        assert BERTForMaskedLM().model.config.dim == 768


@pytest.mark.parametrize("make", [gpt2_small, gpt_small])
def test_gpt_has_a_loss_and_generates(make: Any) -> None:
    gpt = make(vocab_size=50, max_positions=100, dim=24, num_layers=2, num_heads=3).eval()
    input_ids = ids(2, 9)
    labels = input_ids
    assert gpt(input_ids, labels=labels)["loss"].isfinite()
    assert gpt(input_ids)["logits"].shape == (2, 9, 50)
    prompt = input_ids[:, :4]
    out = gpt.generate(prompt, max_length=100, temperature=0.8, top_k=40, top_p=0.9, do_sample=True)
    assert out.shape == (2, 100)
    assert torch.equal(out[:, :4], prompt)


def test_t5_has_a_loss_and_generates() -> None:
    t5 = t5_small(vocab_size=50, dim=24, num_encoder_layers=2, num_heads=3, head_dim=8, hidden_dim=40).eval()
    input_ids, decoder_input_ids, labels = ids(2, 9), ids(2, 5), ids(2, 5)
    labels[0, 2:] = -100
    out = t5(input_ids, decoder_input_ids, labels=labels)
    counted = labels != -100
    assert out["logits"].shape == (2, 5, 50)
    expected = torch.nn.functional.cross_entropy(out["logits"][counted], labels[counted])
    assert torch.allclose(out["loss"], expected)
    assert torch.equal(t5(input_ids, decoder_input_ids)["logits"], out["logits"])
    present = torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    alone = t5(input_ids[1:, :5], decoder_input_ids[1:])["logits"]
    assert torch.allclose(t5(input_ids, decoder_input_ids, present)["logits"][1:], alone, atol=1e-5)
    assert t5.generate(input_ids, max_new_tokens=4).shape[0] == 2


def test_transformer_takes_sequences_before_batches_as_torch_s_does() -> None:
    model = Transformer(d_model=512, nhead=8, num_encoder_layers=6, num_decoder_layers=6, dim_feedforward=2048,
                        dropout=0.1)  # fmt: skip
    src, tgt = torch.randn(7, 2, 512), torch.randn(5, 2, 512)
    out = model(src, tgt)
    assert out.shape == (5, 2, 512)
    alone = model.eval()(src[:, :1], tgt[:, :1])
    assert torch.allclose(model(src, tgt)[:, :1], alone, atol=1e-5), "the second size is the batch"


# -- attention ---------------------------------------------------------------------------------------------------------


def test_attention_mechanisms_take_and_give_vectors_of_the_given_width() -> None:
    x, context = torch.randn(2, 40, 32), torch.randn(2, 11, 20)
    for attention in (
        LinearAttention(32, 4), MultiQueryAttention(32, 4), GroupedQueryAttention(32, 4, 2),
        SlidingWindowAttention(32, 4, 5),
    ):  # fmt: skip
        assert attention(x).shape == x.shape
        assert attention(x, mask=glassformer.Mask.causal()).shape == x.shape
    assert CrossAttention(32, 20, 4)(x, context).shape == x.shape


def test_they_are_attention_set_up_as_their_names_say() -> None:
    assert MultiQueryAttention(32, 4).key.weight.shape == (8, 32)
    assert GroupedQueryAttention(32, 4, 2).key.weight.shape == (16, 32)
    assert GroupedQueryAttention(dim=32, num_heads=4, num_kv_heads=2, biased="").key.bias is None
    cross = CrossAttention(dim=32, context_dim=20, num_heads=4)
    assert cross.key.weight.shape == (32, 20)
    assert SlidingWindowAttention(dim=32, num_heads=4, window_size=5).window_size == 5
    assert LinearAttention(dim=32, num_heads=4).num_heads == 4


def test_rotary_embedding_gives_cosines_and_sines() -> None:
    rope = RotaryPositionalEmbedding(dim=16, max_seq_len=256)
    x = torch.randn(2, 4, 128, 16)
    cos, sin = rope(x, seq_len=128)
    assert cos.shape == sin.shape == (128, 16)
    q, k = torch.randn(2, 4, 128, 16), torch.randn(2, 2, 128, 16)
    turned_q, turned_k = apply_rotary_pos_emb(q, k, cos, sin)
    rotate = Rotary(16)(torch.arange(128))
    assert torch.allclose(turned_q, rotate(q), atol=1e-6)
    assert torch.allclose(turned_k, rotate(k), atol=1e-6)
    scores = turned_q[:, :2] @ turned_k.mT
    again_q, again_k = apply_rotary_pos_emb(q.roll(3, 2), k.roll(3, 2), cos, sin)
    moved = again_q[:, :2] @ again_k.mT
    assert torch.allclose(moved[..., 3:, 3:], scores[..., :-3, :-3], atol=1e-4), "scores depend on distance alone"
    assert torch.equal(rope(x)[0], cos)
    assert rope(x.bfloat16())[0].dtype == torch.bfloat16


@pytest.mark.usefixtures("no_shape_checks")
def test_rotary_embedding_says_what_does_not_fit() -> None:
    rope = RotaryPositionalEmbedding(16, 32)
    with pytest.raises(ValueError, match="seq_len=33 is outside 1 to max_seq_len=32"):
        rope(torch.zeros(1, 16), seq_len=33)
    with pytest.raises(ValueError, match="head_dim=15 is odd"):
        RotaryPositionalEmbedding(15, 32)
    with pytest.raises(ValueError, match="max_seq_len=0 leaves no position"):
        RotaryPositionalEmbedding(16, 0)
    cos, sin = rope(torch.zeros(5, 16))
    with pytest.raises(ValueError, match=r"k has shape \(1, 2, 6, 16\) and cos \(5, 16\)"):
        apply_rotary_pos_emb(torch.zeros(1, 2, 5, 16), torch.zeros(1, 2, 6, 16), cos, sin)


# -- the package -------------------------------------------------------------------------------------------------------


def test_every_name_is_listed_and_there() -> None:
    assert glassformer.advanced.__all__ == sorted(glassformer.advanced.__all__)
    assert dir(glassformer.advanced) == glassformer.advanced.__all__
    for name in glassformer.advanced.__all__:
        assert callable(getattr(glassformer.advanced, name))
    assert not hasattr(glassformer.advanced, "vit_giant")
