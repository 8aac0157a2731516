"""BART, its classifier, and the Transformer over tokens: what published folders say, sizes, first weights, refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from glassformer.models import create_model, from_pretrained
from glassformer.models.bart import BART, CONFIG_TABLE, SIZES, BARTConfig
from glassformer.models.bart_heads import BARTForSequenceClassification
from glassformer.models.transformer import CONFIG_TABLE as MARIAN_TABLE
from glassformer.models.transformer import TokenTransformer, TransformerConfig

TINY: Any = dict(
    vocab_size=19, max_positions=12, dim=8, num_encoder_layers=1, num_decoder_layers=1, num_heads=2, hidden_dim=12
)

SUMMARIZER: dict[str, Any] = dict(  # as the summarizer's folder says it: attributes of every release since 2019
    model_type="bart", architectures=["BartForConditionalGeneration"], _num_labels=3, activation_dropout=0.0,
    activation_function="gelu", add_final_layer_norm=False, attention_dropout=0.0, bos_token_id=0, classif_dropout=0.0,
    classifier_dropout=0.0, d_model=1024, decoder_attention_heads=16, decoder_ffn_dim=4096, decoder_layerdrop=0.0,
    decoder_layers=12, decoder_start_token_id=2, dropout=0.1, early_stopping=True, encoder_attention_heads=16,
    encoder_ffn_dim=4096, encoder_layerdrop=0.0, encoder_layers=12, eos_token_id=2, forced_bos_token_id=0,
    force_bos_token_to_be_generated=True, forced_eos_token_id=2, gradient_checkpointing=False, init_std=0.02,
    id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, label2id={"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
    is_encoder_decoder=True, length_penalty=2.0, max_length=142, max_position_embeddings=1024, min_length=56,
    no_repeat_ngram_size=3, normalize_before=False, num_beams=4, num_hidden_layers=12, output_past=True, pad_token_id=1,
    prefix=" ", replacing_rate=0, scale_embedding=False, static_position_embeddings=False, student_decoder_layers=None,
    student_encoder_layers=None, task_specific_params={"summarization": {"num_beams": 4}}, use_cache=True,
    transformers_version="4.7.0", vocab_size=50264,
)  # fmt: skip

TRANSLATOR: dict[str, Any] = dict(
    model_type="marian", architectures=["MarianMTModel"], _num_labels=3, activation_dropout=0.0,
    activation_function="swish", add_bias_logits=False, add_final_layer_norm=False, attention_dropout=0.0,
    bad_words_ids=[[58100]], bos_token_id=0, classif_dropout=0.0, classifier_dropout=0.0, d_model=512,
    decoder_attention_heads=8, decoder_ffn_dim=2048, decoder_layerdrop=0.0, decoder_layers=6,
    decoder_start_token_id=58100, decoder_vocab_size=58101, dropout=0.1, encoder_attention_heads=8,
    encoder_ffn_dim=2048, encoder_layerdrop=0.0, encoder_layers=6, eos_token_id=0, extra_pos_embeddings=58101,
    forced_eos_token_id=0, init_std=0.02, is_encoder_decoder=True, max_length=512, max_position_embeddings=512,
    normalize_before=False, normalize_embedding=False, num_beams=6, num_hidden_layers=6, pad_token_id=58100,
    scale_embedding=True, share_encoder_decoder_embeddings=True, static_position_embeddings=True, use_cache=True,
    transformers_version="4.22.0", vocab_size=58101,
)  # fmt: skip


def test_the_summarizers_published_config_is_the_size_of_its_name() -> None:
    config = CONFIG_TABLE.load(SUMMARIZER)
    assert config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    named = {"labels": None, "problem": None}
    assert vars(config) | named == vars(SIZES["bart-large-cnn"]) | named


def test_a_translators_published_config_is_a_transformer_of_the_papers_shape() -> None:
    assert MARIAN_TABLE.load(TRANSLATOR) == TransformerConfig(
        vocab_size=58_101, max_positions=512, activation="silu", decoder_start_token_id=58_100, pad_token_id=58_100,
        eos_token_id=0, forced_eos_token_id=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [{"normalize_before": True}, {"add_final_layer_norm": True}, {"encoder_layerdrop": 0.1},
     {"extra_pos_embeddings": 0}, {"decoder_attention_heads": 8}, {"decoder_ffn_dim": 1024},
     {"tie_word_embeddings": False}, {"d_modle": 1024}],
    ids=str,
)  # fmt: skip
def test_what_is_built_otherwise_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CONFIG_TABLE.load(SUMMARIZER | wrong)


def test_a_number_of_heads_that_a_file_lacks_is_the_default_not_that_of_the_other_half() -> None:
    for theirs in (SUMMARIZER, TRANSLATOR):
        alone = {name: value for name, value in theirs.items() if name != "decoder_attention_heads"}
        with pytest.raises(ValueError, match="'decoder_attention_heads': 16}; only equal ones"):
            (CONFIG_TABLE if theirs is SUMMARIZER else MARIAN_TABLE).load(alone | {"encoder_attention_heads": 8})


def test_two_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decoder_vocab_size.*only equal ones"):
        MARIAN_TABLE.load(TRANSLATOR | {"decoder_vocab_size": 40_000})


@pytest.mark.parametrize("name", ["transformer-base", "transformer-big"])
def test_the_papers_sizes_are_counted_by_formula(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    d, f, n = model.config.dim, model.config.hidden_dim, model.config.num_encoder_layers
    attention, feed_forward, norm = 4 * (d * d + d), 2 * d * f + f + d, 2 * d
    blocks = n * (attention + feed_forward + 2 * norm) + n * (2 * attention + feed_forward + 3 * norm)
    assert model.num_parameters == 37_000 * d + blocks


def test_first_weights_are_the_papers() -> None:
    model = TokenTransformer(TransformerConfig(dim=64, hidden_dim=128, vocab_size=500, num_heads=4))
    assert model.embed.weight.std().item() == pytest.approx(64**-0.5, rel=0.03)
    up = model.decoder.blocks[0].feed_forward.up
    assert up.weight.abs().max().item() == pytest.approx((6 / (64 + 128)) ** 0.5, rel=0.01)
    bart = BART(BARTConfig(**TINY | {"dim": 64, "vocab_size": 500}))
    for layer in (bart.embed, bart.encoder_input.position, bart.encoder.blocks[0].feed_forward.up):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_folder_without_the_logits_bias_opens_and_has_none(tmp_path: Path) -> None:
    model = BART(BARTConfig(**TINY))
    model.head.bias.uniform_()
    model.save_pretrained(tmp_path)
    assert torch.equal(from_pretrained(tmp_path).head.bias, model.head.bias)
    (file,) = tmp_path.glob("*.safetensors")
    state = {name.removeprefix("model."): tensor for name, tensor in load_file(file).items()}
    del state["final_logits_bias"]
    save_file(state, file)
    opened = BART.from_pretrained(tmp_path)
    assert opened.head.bias is None
    x = torch.tensor([[5, 6, 2]])
    logits = opened(x, labels=x).logits
    model.head.bias.zero_()
    assert torch.equal(logits, model.eval()(x, labels=x).logits)


def test_a_classifier_takes_a_trained_models_weights_and_opens_by_its_own_name(tmp_path: Path) -> None:
    body = BART(BARTConfig(**TINY)).double()
    model = BARTForSequenceClassification.on(body, labels=("contradiction", "neutral", "entailment"))
    assert model.head.weight.dtype == torch.float64
    assert torch.equal(model.embed.weight, body.embed.weight)
    model.save_pretrained(tmp_path)
    opened = from_pretrained(tmp_path)
    assert type(opened) is BARTForSequenceClassification
    assert opened.config.labels == ("contradiction", "neutral", "entailment")
    assert torch.equal(BART.from_pretrained(tmp_path).embed.weight, body.embed.weight)
    made = create_model("bart-base", head="sequence_classification", **TINY, labels=("a", "b"))
    assert type(made) is BARTForSequenceClassification


def test_a_text_is_read_at_its_last_end_and_must_have_one() -> None:
    model = BARTForSequenceClassification(BARTConfig(**TINY)).eval()
    x = torch.tensor([[0, 5, 2, 6, 2, 1], [0, 2, 7, 8, 9, 2]])
    assert model.ends(x).tolist() == [4, 5]
    shorter = model(x[:1, :5]).logits
    torch.testing.assert_close(model(x, torch.tensor([[1] * 5 + [0], [1] * 6])).logits[:1], shorter)
    with pytest.raises(ValueError, match="row 1 of input_ids has no eos_token_id=2"):
        model(torch.tensor([[5, 2], [5, 6]]))
    with pytest.raises(ValueError, match=r"labels have shape \(1,\); expected \(2,\)"):
        model(x, labels=torch.tensor([0]))
    with pytest.raises(ValueError, match="13 tokens of input_ids do not fit into the model's 12 positions"):
        model(torch.full((1, 13), 2))


def test_regression_and_many_labels_have_their_losses() -> None:
    x = torch.tensor([[0, 5, 2], [0, 6, 2]])
    one = BARTForSequenceClassification(BARTConfig(**TINY, labels=("score",))).eval()
    out = one(x, labels=torch.tensor([0.5, -1.0]))
    torch.testing.assert_close(out.loss, nn.functional.mse_loss(out.logits[:, 0], torch.tensor([0.5, -1.0])))
    many = BARTForSequenceClassification(BARTConfig(**TINY, labels=("a", "b", "c"))).eval()
    wanted = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    out = many(x, labels=wanted)
    torch.testing.assert_close(out.loss, nn.functional.binary_cross_entropy_with_logits(out.logits, wanted))


@pytest.mark.parametrize(
    "options",
    [  # fewer hypotheses than beams: copies fill up, as there, and nothing that is forbidden
        {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 1},
        {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 2, "length_penalty": 0.0},
        {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 6, "early_stopping": "never"},
        {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6, "early_stopping": True, "eos_token_id": 5},
        {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6, "eos_token_id": [*range(2, 17)]},
    ],
    ids=str,
)
def test_beam_search_with_forced_tokens_writes_those_of_transformers(tmp_path: Path, options: dict[str, Any]) -> None:
    from transformers import BartForConditionalGeneration

    torch.manual_seed(0)
    ours = BART(BARTConfig(**TINY, pad_token_id=1, forced_bos_token_id=5, forced_eos_token_id=2)).eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.6)
    ours.save_pretrained(tmp_path)
    theirs = BartForConditionalGeneration.from_pretrained(tmp_path).eval()
    both = {"eos_token_id": 2, **options}
    for seed in range(4):
        x = torch.randint(3, 19, (2, 4), generator=torch.Generator().manual_seed(seed))
        expected = theirs.generate(
            x, attention_mask=torch.ones_like(x), do_sample=False, forced_bos_token_id=5, forced_eos_token_id=2,
            pad_token_id=1, decoder_start_token_id=2, **both
        )  # fmt: skip
        assert torch.equal(ours.generate(x, **both), expected)
