"""Decoders that declare themselves."""

from collections.abc import Callable
from typing import Any

import torch
from declaration import VOCAB, Declared

from glassformer.models.bigram import Bigram, BigramConfig
from glassformer.models.deepseek import DeepSeek, DeepSeekConfig
from glassformer.models.gemma3 import Gemma3, Gemma3Config
from glassformer.models.gpt import GPT, GPTConfig
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.llama import Llama, LlamaConfig
from glassformer.models.mistral import Mistral, MistralConfig
from glassformer.models.mixtral import Mixtral, MixtralConfig
from glassformer.models.mpt import MPT, MPTConfig
from glassformer.models.qwen3 import Qwen3, Qwen3Config
from glassformer.parts import DynamicScaling, LinearScaling, Llama3Scaling, YarnScaling


def _gpt2(**changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        from transformers import GPT2Config, GPT2LMHeadModel

        shape = dict(vocab_size=VOCAB, n_positions=48, n_embd=32, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0)
        return GPT2LMHeadModel(GPT2Config(**shape | changes))

    return make


def _gpt() -> Any:
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    return OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=VOCAB, n_positions=48, n_embd=32, n_layer=3, n_head=4))


def _llama(rope: dict[str, Any] | None = None, **changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        from transformers import LlamaConfig, LlamaForCausalLM

        shape = dict(
            vocab_size=VOCAB,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=56,
            max_position_embeddings=48,
            rms_norm_eps=1e-5,
            bos_token_id=0,
            eos_token_id=0,
        )
        rope_parameters = {"rope_type": "default", "rope_theta": 10_000.0} | (rope or {})
        return LlamaForCausalLM(LlamaConfig(**shape | {"rope_parameters": rope_parameters} | changes))

    return make


def _ours_llama(**changes: Any) -> LlamaConfig:
    shape = dict(vocab_size=VOCAB, dim=32, num_layers=3, num_heads=4, hidden_dim=56, max_positions=48, norm_eps=1e-5)
    return LlamaConfig(**shape | changes)


def _ours_gpt2(**changes: Any) -> GPT2Config:
    return GPT2Config(**dict(vocab_size=VOCAB, max_positions=48, dim=32, num_layers=3, num_heads=4) | changes)


_THEIRS = dict(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
               intermediate_size=56, max_position_embeddings=48, bos_token_id=0, eos_token_id=0,
               pad_token_id=None)  # fmt: skip
_OURS = dict(vocab_size=VOCAB, dim=32, num_layers=3, num_heads=4, num_kv_heads=2, hidden_dim=56, max_positions=48)


def _theirs(name: str, *, model: str | None = None, **changes: Any) -> Callable[[], Any]:
    """Their `{model}ForCausalLM` of a `{name}Config` with the common shape."""

    def make() -> Any:
        import transformers

        config = getattr(transformers, f"{name}Config")(**_THEIRS | changes)
        return getattr(transformers, f"{model or name}ForCausalLM")(config)

    return make


def _mpt(**changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        from transformers import MptConfig, MptForCausalLM

        return MptForCausalLM(
            MptConfig(**dict(vocab_size=VOCAB, n_layers=3, max_seq_len=48, attn_config={"dtype": "float32"}) | changes)
        )

    return make


def _ours_deepseek(**changes: Any) -> DeepSeekConfig:
    shape = dict(
        vocab_size=VOCAB, max_positions=48, dim=32, num_layers=2, num_dense_layers=1, num_heads=4, query_latent_dim=20,
        latent_dim=12, head_dim=10, rotary_dim=8, value_dim=14, hidden_dim=56, expert_dim=24, num_experts=6,
        num_chosen=3, num_groups=3, num_chosen_groups=2,
    )  # fmt: skip
    return DeepSeekConfig(**shape | changes)


def _deepseek(rope: dict[str, Any] | None = None, **changes: Any) -> Callable[[], Any]:
    def make() -> Any:
        shape = dict(
            num_hidden_layers=2, first_k_dense_replace=1, num_key_value_heads=4, q_lora_rank=20, kv_lora_rank=12,
            qk_nope_head_dim=10, qk_rope_head_dim=8, v_head_dim=14, moe_intermediate_size=24, n_routed_experts=6,
            num_experts_per_tok=3, n_group=3, topk_group=2,
        )  # fmt: skip
        rope_parameters = {"rope_type": "default", "rope_theta": 10_000.0} | (rope or {})
        model = _theirs("DeepseekV3", **shape | {"rope_parameters": rope_parameters} | changes)()
        for name, bias in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                bias.copy_(torch.linspace(-0.3, 0.3, len(bias)))  # visible: it is 0 in a fresh model
        return model

    return make


DECODERS = [
    Declared("bigram", Bigram, BigramConfig(vocab_size=VOCAB)),
    Declared("gpt", GPT, GPTConfig(vocab_size=VOCAB, max_positions=48, dim=32, num_layers=3, num_heads=4), _gpt),
    Declared("gpt2", GPT2, _ours_gpt2(), _gpt2()),
    Declared(
        "gpt2-relu-untied",
        GPT2,
        _ours_gpt2(activation="relu", hidden_dim=80, tied=False),
        _gpt2(activation_function="relu", n_inner=80, tie_word_embeddings=False),
    ),
    Declared("llama", Llama, _ours_llama(), _llama()),
    Declared(
        "llama-grouped-biased",
        Llama,
        _ours_llama(num_kv_heads=2, attention_bias=True, feed_forward_bias=True, head_dim=16, rope_base=500.0),
        _llama({"rope_theta": 500.0}, num_key_value_heads=2, attention_bias=True, mlp_bias=True, head_dim=16),
    ),
    Declared(
        "llama-multi-query-tied",
        Llama,
        _ours_llama(num_kv_heads=1, tied=True),
        _llama(num_key_value_heads=1, tie_word_embeddings=True),
    ),
    Declared(
        "llama-linear",
        Llama,
        _ours_llama(rope_scaling=LinearScaling(factor=2.0)),
        _llama({"rope_type": "linear", "factor": 2.0}),
    ),
    Declared(
        "llama-dynamic",
        Llama,
        _ours_llama(rope_scaling=DynamicScaling(factor=2.0, max_positions=48)),
        _llama({"rope_type": "dynamic", "factor": 2.0}),
    ),
    Declared(
        "llama-llama3",
        Llama,
        _ours_llama(
            rope_scaling=Llama3Scaling(
                factor=4.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_max_positions=24
            )
        ),
        _llama(
            {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 24,
            }
        ),
    ),
    Declared(
        "llama-yarn",
        Llama,
        _ours_llama(rope_scaling=YarnScaling(factor=2.0, original_max_positions=24)),
        _llama({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 24}),
    ),
    Declared(
        "mistral",
        Mistral,
        MistralConfig(**_OURS, window_size=5, norm_eps=1e-6),
        _theirs("Mistral", sliding_window=5),
        skips={"cache_truncates_and_reorders": "its cache forgets what no window reaches; see test_mistral_cache.py"},
    ),
    Declared(
        "mistral-no-window",
        Mistral,
        MistralConfig(**_OURS, head_dim=16, window_size=None, rope_base=1e6, tied=True),
        _theirs(
            "Mistral",
            head_dim=16,
            sliding_window=None,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        ),
    ),
    Declared("qwen3", Qwen3, Qwen3Config(**_OURS, head_dim=16, rope_base=1e4), _theirs("Qwen3", head_dim=16)),
    Declared(
        "qwen3-tied",
        Qwen3,
        Qwen3Config(**_OURS, head_dim=8, rope_base=1e6, tied=True, attention_bias=True),
        _theirs(
            "Qwen3",
            head_dim=8,
            tie_word_embeddings=True,
            attention_bias=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        ),
    ),
    Declared(
        "mpt",
        MPT,
        MPTConfig(vocab_size=VOCAB, max_positions=48, dim=32, num_layers=3, num_heads=4),
        _mpt(d_model=32, n_heads=4),
    ),
    Declared(
        "mpt-six-heads",
        MPT,
        MPTConfig(vocab_size=VOCAB, max_positions=48, dim=48, num_layers=3, num_heads=6),
        _mpt(d_model=48, n_heads=6),
    ),
    Declared(
        "gemma3",
        Gemma3,
        Gemma3Config(**_OURS | dict(num_layers=4), head_dim=16, window_size=5, global_every=3, score_dim=100),
        _theirs(
            "Gemma3Text",
            model="Gemma3",
            num_hidden_layers=4,
            head_dim=16,
            sliding_window=5,
            sliding_window_pattern=3,
            query_pre_attn_scalar=100,
        ),
    ),
    Declared(
        "gemma3-linear-untied",
        Gemma3,
        Gemma3Config(
            **_OURS | dict(num_kv_heads=1),
            head_dim=8,
            window_size=4,
            global_every=2,
            score_dim=8,
            rope_scaling=LinearScaling(factor=8.0),
            rope_base=1e5,
            local_rope_base=100.0,
            tied=False,
        ),
        _theirs(
            "Gemma3Text",
            model="Gemma3",
            num_key_value_heads=1,
            head_dim=8,
            sliding_window=4,
            sliding_window_pattern=2,
            query_pre_attn_scalar=8,
            tie_word_embeddings=False,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            },
        ),
    ),
    Declared(
        "mixtral",
        Mixtral,
        MixtralConfig(**_OURS, head_dim=16, num_experts=4, num_chosen=2),
        _theirs("Mixtral", head_dim=16, num_local_experts=4, num_experts_per_tok=2),
    ),
    Declared(
        "mixtral-window-tied",
        Mixtral,
        MixtralConfig(**_OURS, head_dim=8, num_experts=5, num_chosen=3, window_size=6, rope_base=1e4, tied=True),
        _theirs(
            "Mixtral",
            head_dim=8,
            num_local_experts=5,
            num_experts_per_tok=3,
            sliding_window=6,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        ),
    ),
    Declared("deepseek", DeepSeek, _ours_deepseek(rope_scaling=None, yarn_scale=0.0), _deepseek()),
    Declared(
        "deepseek-yarn-tied",
        DeepSeek,
        _ours_deepseek(
            rope_scaling=YarnScaling(factor=4.0, original_max_positions=12, attention_factor=1.0),
            tied=True,
            num_dense_layers=0,
            num_shared_experts=2,
        ),
        _deepseek(
            {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 12,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
            },
            tie_word_embeddings=True,
            first_k_dense_replace=0,
            n_shared_experts=2,
        ),
    ),
]
