"""What the folders of published decoders say is the size of that name."""

from typing import Any

import pytest

from glassformer.models import deepseek, gemma3, llama, mistral, mixtral, mpt, qwen3
from glassformer.parts import YarnScaling

COMMON = dict(attention_dropout=0.0, bos_token_id=1, eos_token_id=2, hidden_act="silu", initializer_range=0.02,
              tie_word_embeddings=False, torch_dtype="bfloat16", transformers_version="4.40.0",
              use_cache=True)  # fmt: skip
SEVEN_B = dict(hidden_size=4096, num_attention_heads=32, num_hidden_layers=32, num_key_value_heads=8,
               intermediate_size=14_336, max_position_embeddings=32_768, rms_norm_eps=1e-5,
               vocab_size=32_000)  # fmt: skip

PUBLISHED: dict[str, tuple[Any, dict[str, Any]]] = {
    "mistral-7b": (mistral, COMMON | SEVEN_B | dict(
        model_type="mistral", architectures=["MistralForCausalLM"], rope_theta=10_000.0, sliding_window=4096,
    )),
    "mixtral-8x7b": (mixtral, COMMON | SEVEN_B | dict(
        model_type="mixtral", architectures=["MixtralForCausalLM"], rope_theta=1_000_000.0, sliding_window=None,
        num_experts_per_tok=2, num_local_experts=8, output_router_logits=False, router_aux_loss_coef=0.02,
    )),
    "qwen3-8b": (qwen3, COMMON | dict(
        model_type="qwen3", architectures=["Qwen3ForCausalLM"], attention_bias=False, head_dim=128, hidden_size=4096,
        intermediate_size=12_288, max_position_embeddings=40_960, max_window_layers=36, num_attention_heads=32,
        num_hidden_layers=36, num_key_value_heads=8, rms_norm_eps=1e-6, rope_scaling=None, rope_theta=1_000_000,
        sliding_window=None, use_sliding_window=False, vocab_size=151_936,
    )),
    "gemma3-1b": (gemma3, {name: value for name, value in COMMON.items() if name not in (
        "hidden_act", "tie_word_embeddings")} | dict(
        model_type="gemma3_text", architectures=["Gemma3ForCausalLM"], attention_bias=False, eos_token_id=[1, 106],
        attn_logit_softcapping=None, cache_implementation="hybrid", final_logit_softcapping=None, head_dim=256,
        hidden_activation="gelu_pytorch_tanh", hidden_size=1152, intermediate_size=6912, pad_token_id=0,
        max_position_embeddings=32_768, num_attention_heads=4, num_hidden_layers=26, num_key_value_heads=1,
        query_pre_attn_scalar=256, rms_norm_eps=1e-6, rope_local_base_freq=10_000, rope_scaling=None,
        rope_theta=1_000_000, sliding_window=512, sliding_window_pattern=6, vocab_size=262_144,
    )),
    "llama3.2-1b": (llama, COMMON | dict(
        model_type="llama", architectures=["LlamaForCausalLM"], attention_bias=False, head_dim=64, hidden_size=2048,
        intermediate_size=8192, max_position_embeddings=131_072, mlp_bias=False, num_attention_heads=32,
        num_hidden_layers=16, num_key_value_heads=8, pretraining_tp=1, rms_norm_eps=1e-5, rope_theta=500_000.0,
        rope_scaling=dict(factor=32.0, high_freq_factor=4.0, low_freq_factor=1.0,
                          original_max_position_embeddings=8192, rope_type="llama3"),
        tie_word_embeddings=True, vocab_size=128_256,
    )),
    "deepseek-v3": (deepseek, COMMON | dict(
        model_type="deepseek_v3", architectures=["DeepseekV3ForCausalLM"], attention_bias=False, auto_map={},
        ep_size=1, first_k_dense_replace=3, hidden_size=7168, intermediate_size=18_432, kv_lora_rank=512,
        max_position_embeddings=163_840, moe_intermediate_size=2048, moe_layer_freq=1, n_group=8,
        n_routed_experts=256, n_shared_experts=1, norm_topk_prob=True, num_attention_heads=128,
        num_experts_per_tok=8, num_hidden_layers=61, num_key_value_heads=128, num_nextn_predict_layers=1,
        q_lora_rank=1536, qk_nope_head_dim=128, qk_rope_head_dim=64, rms_norm_eps=1e-6, rope_theta=10_000,
        rope_scaling=dict(beta_fast=32, beta_slow=1, factor=40, mscale=1.0, mscale_all_dim=1.0,
                          original_max_position_embeddings=4096, type="yarn"),
        routed_scaling_factor=2.5, scoring_func="sigmoid", topk_group=4, topk_method="noaux_tc", v_head_dim=128,
        vocab_size=129_280,
    )),
    "mpt-7b": (mpt, dict(
        model_type="mpt", architectures=["MPTForCausalLM"], auto_map={}, d_model=4096, emb_pdrop=0,
        attn_config=dict(alibi=True, alibi_bias_max=8, attn_impl="torch", attn_pdrop=0, qk_ln=False, clip_qkv=None,
                         attn_type="multihead_attention", attn_uses_sequence_id=False, prefix_lm=False,
                         softmax_scale=None),
        embedding_fraction=1.0, expansion_ratio=4, init_config={}, init_device="cpu", learned_pos_emb=True,
        logit_scale=None, max_seq_len=2048, n_heads=32, n_layers=32, no_bias=True, resid_pdrop=0, use_cache=False,
        norm_type="low_precision_layernorm", tokenizer_name="EleutherAI/gpt-neox-20b", torch_dtype="bfloat16",
        transformers_version="4.28.1", verbose=0, vocab_size=50_432,
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_published_folder_says_is_the_size_of_that_name(name: str) -> None:
    model, attributes = PUBLISHED[name]
    assert model.CONFIG_TABLE.load(attributes) == model.SIZES[name]


def test_a_longer_context_is_asked_for_by_the_attribute_that_the_model_card_names() -> None:
    attributes = PUBLISHED["qwen3-8b"][1]
    yarn = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32_768)
    config = qwen3.CONFIG_TABLE.load(attributes | {"rope_scaling": yarn})
    assert config.rope_scaling == YarnScaling(factor=4.0, original_max_positions=32_768)


def test_weights_of_eight_bits_are_refused_by_name() -> None:
    attributes = PUBLISHED["deepseek-v3"][1]
    with pytest.raises(ValueError, match="quantization_config"):
        deepseek.CONFIG_TABLE.load(attributes | {"quantization_config": {"quant_method": "fp8"}})
