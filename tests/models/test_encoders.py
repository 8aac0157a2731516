"""Encoders: padding that is not computed, folders of any head, token types, bad input, published configs."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from declared_encoders import ENCODERS
from properties import build, close, gradients, redraw
from torch import Tensor

import glassformer
from glassformer.models.bert import BERT, BERTConfig
from glassformer.models.bert_heads import (
    BERTForMaskedLM,
    BERTForNextSentencePrediction,
    BERTForPreTraining,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from glassformer.models.catalog import HEADS, MODELS, create_model
from glassformer.models.distilbert import DistilBERTConfig, DistilBERTForSequenceClassification
from glassformer.models.modernbert import ModernBERT, ModernBERTConfig
from glassformer.models.roberta import RoBERTaConfig, RoBERTaForMaskedLM
from glassformer.ops.mask import Mask, Padding

CASES = {case.name: case for case in ENCODERS}
TINY: dict[str, Any] = dict(vocab_size=61, max_positions=48, dim=32, num_layers=2, num_heads=4, hidden_dim=56)
LENGTHS = torch.tensor([17, 1, 9, 12])
X = torch.randint(2, 54, (4, 17), generator=torch.Generator().manual_seed(0))
PRESENT = (torch.arange(17) < LENGTHS[:, None]).long()
families = pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])


def encoder(family: str, **changes: Any) -> Any:
    return redraw(create_model(family, **TINY | changes)).double().eval()


# -- padding that is not computed --------------------------------------------------------------------------------------


@families
def test_padding_behind_the_tokens_is_not_computed(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = encoder(family), []
    monkeypatch.setattr(Padding, "allows", lambda *_: pytest.fail("a mask hides padding that is not there"))
    model.embed.register_forward_hook(lambda _module, given, _out: rows.append(given[0].shape))
    out = model(X, PRESENT).last_hidden_state
    assert rows == [(1, LENGTHS.sum())]
    assert (out[PRESENT == 0] == 0).all()
    for i, length in enumerate(LENGTHS):
        close(out[i : i + 1, :length], model(X[i : i + 1, :length]).last_hidden_state, 1e-13, f"row {i}")


@families
def test_what_is_packed_equals_what_is_computed_densely_and_so_do_its_gradients(family: str) -> None:
    results = []
    for dense in (True, False):
        model = encoder(family, num_layers=3)
        out = model(X, PRESENT, dense=dense).last_hidden_state[PRESENT.bool()]
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        results.append((out.detach(), gradients(model)))
    (expected, wanted), (got, grads) = results
    close(got, expected, 1e-13, "hidden states")
    for name, grad in wanted.items():
        if not name.endswith("key.bias"):
            close(grads[name], grad, 1e-11, name) if (grad != 0).any() else None


@pytest.mark.parametrize(
    "present",
    [PRESENT.flip(1), PRESENT * (torch.arange(17) != 3), PRESENT * torch.tensor([[1], [0], [1], [1]])],
    ids=["in front", "between", "a whole row"],
)
def test_padding_elsewhere_is_masked(present: Tensor) -> None:
    model = encoder("bert")
    got, expected = model(X, present), model(X, present, dense=True)
    assert torch.equal(got.last_hidden_state, expected.last_hidden_state)


def test_a_batch_without_padding_needs_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder("bert")
    expected = model(X).last_hidden_state
    monkeypatch.setattr(Mask, "packed", lambda *_: pytest.fail("packed"))
    assert torch.equal(model(X, torch.ones_like(X)).last_hidden_state, expected)


def test_labels_at_padded_places_count_as_in_a_dense_batch() -> None:
    model = build(CASES["bert"])
    labels = torch.randint(61, X.shape, generator=torch.Generator().manual_seed(1))
    logits = model.head(model.features(model.encoder(X, PRESENT, dense=True).last_hidden_state))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    close(model(X, PRESENT, labels).loss.detach(), expected.detach(), 1e-13, "loss")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_padded_batch_compiles_whole() -> None:
    model = encoder("bert").float()
    torch._dynamo.reset()
    with torch.no_grad():
        out = torch.compile(model, fullgraph=True, backend="eager")(X, PRESENT).last_hidden_state
        close(out[PRESENT.bool()], model(X, PRESENT).last_hidden_state[PRESENT.bool()], 1e-5, "compiled")


# -- folders -----------------------------------------------------------------------------------------------------------


@families
def test_an_encoder_opens_the_folder_of_any_head(family: str, tmp_path: Path) -> None:
    for task, head in HEADS[family].items():
        model: Any = redraw(create_model(family, head=task, **TINY))
        model.save_pretrained(tmp_path / task)
        assert type(glassformer.from_pretrained(tmp_path / task)) is head
        kind: Any = MODELS[family]
        alone = kind.from_pretrained(tmp_path / task)
        assert torch.equal(alone(X).last_hidden_state, model.eval().encoder(X).last_hidden_state)
        assert (alone.pooler is None) == (model.encoder.pooler is None)
        again = type(model).on(alone, **{} if model.config.labels is None else {"labels": model.config.labels})
        assert torch.equal(again.eval().encoder(X).last_hidden_state, alone(X).last_hidden_state)


def test_a_new_head_on_a_trained_encoder_learns_other_classes_with_the_same_weights() -> None:
    base = encoder("bert")
    model = BERTForSequenceClassification.on(base, labels=("a", "b", "c"), classifier_dropout=0.5)
    assert model.head.weight.shape == (3, 32)
    assert model.head.weight.dtype == torch.float64
    assert model.config.classifier_dropout == 0.5
    assert torch.equal(model.eval().encoder(X).pooler_output, base(X).pooler_output)
    base.embed.weight.data.zero_()
    assert model.encoder.embed.weight.abs().sum() > 0, "a copy"
    with pytest.raises(ValueError, match="BERTForMaskedLM is built of a BERTConfig, which RoBERTa has not"):
        BERTForMaskedLM.on(create_model("roberta", **TINY))


def test_a_folder_without_the_head_says_how_to_put_a_new_one_on(tmp_path: Path) -> None:
    create_model("bert", **TINY).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'BertModel'.*BERTForSequenceClassification\.on\(\.\.\.\) puts a new head"):
        BERTForSequenceClassification.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", [BERTForMaskedLM, BERTForNextSentencePrediction])
def test_what_was_trained_on_both_tasks_opens_as_either(kind: Any, tmp_path: Path) -> None:
    both = redraw(BERTForPreTraining(BERTConfig(**TINY))).eval()
    both.save_pretrained(tmp_path)
    expected = both(X)
    got = kind.from_pretrained(tmp_path)(X).logits
    wanted = expected.prediction_logits if kind is BERTForMaskedLM else expected.seq_relationship_logits
    assert torch.equal(got, wanted)


def test_old_names_are_read(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = redraw(BERTForMaskedLM(BERTConfig(**TINY))).eval()
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    old = {re.sub(r"LayerNorm\.weight$", "LayerNorm.gamma", name): tensor for name, tensor in state.items()}
    old = {re.sub(r"LayerNorm\.bias$", "LayerNorm.beta", name): tensor for name, tensor in old.items()}
    old["bert.embeddings.position_ids"] = torch.arange(48)[None]
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    old["cls.predictions.decoder.bias"] = old["cls.predictions.bias"].clone()
    old["cls.seq_relationship.weight"], old["cls.seq_relationship.bias"] = torch.ones(2, 32), torch.ones(2)
    old["bert.pooler.dense.weight"], old["bert.pooler.dense.bias"] = torch.ones(32, 32), torch.ones(32)
    assert not any("LayerNorm.weight" in name for name in old)
    save_file(old, tmp_path / "model.safetensors", {"format": "pt"})
    assert torch.equal(BERTForMaskedLM.from_pretrained(tmp_path)(X).logits, model(X).logits)
    pooled = BERT.from_pretrained(tmp_path)
    assert pooled.pooler is not None
    assert (pooled.pooler.dense.weight == 1).all()
    del old["bert.encoder.layer.0.output.LayerNorm.gamma"]
    save_file(old, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks bert.encoder.layer.0.output.LayerNorm.*feed_forward_norm.weight"):
        BERTForMaskedLM.from_pretrained(tmp_path)


# -- published configs -------------------------------------------------------------------------------------------------

COMMON = dict(hidden_act="gelu", initializer_range=0.02, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
              intermediate_size=3072, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)  # fmt: skip
PUBLISHED: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "bert-base-uncased": (
        BERTForMaskedLM,
        dict(COMMON, architectures=["BertForMaskedLM"], model_type="bert", gradient_checkpointing=False,
             layer_norm_eps=1e-12, max_position_embeddings=512, pad_token_id=0, position_embedding_type="absolute",
             transformers_version="4.6.0.dev0", type_vocab_size=2, use_cache=True, vocab_size=30522),
        BERTConfig(),
    ),
    "bert-base-multilingual-cased": (
        BERTForMaskedLM,
        dict(COMMON, architectures=["BertForMaskedLM"], model_type="bert", directionality="bidi", layer_norm_eps=1e-12,
             max_position_embeddings=512, pad_token_id=0, pooler_fc_size=768, pooler_num_attention_heads=12,
             pooler_num_fc_layers=3, pooler_size_per_head=128, pooler_type="first_token_transform",
             position_embedding_type="absolute", type_vocab_size=2, use_cache=True, vocab_size=119547),
        BERTConfig(vocab_size=119_547),
    ),
    "roberta-base": (
        RoBERTaForMaskedLM,
        dict(COMMON, architectures=["RobertaForMaskedLM"], model_type="roberta", bos_token_id=0, eos_token_id=2,
             layer_norm_eps=1e-5, max_position_embeddings=514, pad_token_id=1, type_vocab_size=1, vocab_size=50265),
        RoBERTaConfig(),
    ),
    "distilbert-base-uncased-finetuned-sst-2-english": (
        DistilBERTForSequenceClassification,
        dict(activation="gelu", architectures=["DistilBertForSequenceClassification"], attention_dropout=0.1, dim=768,
             dropout=0.1, finetuning_task="sst-2", hidden_dim=3072, id2label={"0": "NEGATIVE", "1": "POSITIVE"},
             initializer_range=0.02, label2id={"NEGATIVE": 0, "POSITIVE": 1}, max_position_embeddings=512,
             model_type="distilbert", n_heads=12, n_layers=6, output_past=True, pad_token_id=0, qa_dropout=0.1,
             seq_classif_dropout=0.2, sinusoidal_pos_embds=False, tie_weights_=True, vocab_size=30522),
        DistilBERTConfig(labels=("NEGATIVE", "POSITIVE")),
    ),
    "ModernBERT-base": (
        ModernBERT,
        dict(architectures=["ModernBertForMaskedLM"], attention_bias=False, attention_dropout=0.0, bos_token_id=50281,
             classifier_activation="gelu", classifier_bias=False, classifier_dropout=0.0, classifier_pooling="mean",
             cls_token_id=50281, decoder_bias=True, deterministic_flash_attn=False, embedding_dropout=0.0,
             eos_token_id=50282, global_attn_every_n_layers=3, global_rope_theta=160000.0, gradient_checkpointing=False,
             hidden_activation="gelu", hidden_size=768, initializer_cutoff_factor=2.0, initializer_range=0.02,
             intermediate_size=1152, layer_norm_eps=1e-5, local_attention=128, local_rope_theta=10000.0,
             max_position_embeddings=8192, mlp_bias=False, mlp_dropout=0.0, model_type="modernbert", norm_bias=False,
             norm_eps=1e-5, num_attention_heads=12, num_hidden_layers=22, pad_token_id=50283,
             position_embedding_type="absolute", sep_token_id=50282, tie_word_embeddings=True, torch_dtype="float32",
             transformers_version="4.47.0.dev0", vocab_size=50368),
        ModernBERTConfig(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_config_is_read_as_the_published_size(name: str) -> None:
    model, attributes, config = PUBLISHED[name]
    assert model.config_table.load(attributes) == config


@pytest.mark.parametrize(
    ("model", "attributes", "message"),
    [
        (BERTForMaskedLM, {"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'; only"),
        (BERTForMaskedLM, {"is_decoder": True}, "is_decoder=True; only False is implemented"),
        (BERTForMaskedLM, {"problem_type": "ranking"}, "problem_type='ranking' is not implemented"),
        (BERTForMaskedLM, {"id2label": {"0": "a", "2": "b"}}, "expected a name for each of the ids 0, 1, 2"),
        (BERTForMaskedLM, {"id2label": {"0": "a", "1": 7}}, "expected names that are strings"),
        (BERTForMaskedLM, {"architectures": ["BertForTokenClassification"]}, "names the architecture 'BertForToken"),
        (ModernBERT, {"norm_bias": True}, "norm_bias=True; only False is implemented"),
        (ModernBERT, {"classifier_pooling": "max"}, "classifier_pooling='max' is not implemented"),
        (ModernBERT, {"layer_types": ["full_attention", "sliding_attention"] * 2 + ["full_attention"] * 2},
         "in which not each 2th layer alone is full"),
        (ModernBERT, {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}},
         "only the default rotation is implemented"),
    ],
)  # fmt: skip
def test_what_a_config_asks_for_and_is_not_there_is_named(model: Any, attributes: dict, message: str) -> None:
    published = PUBLISHED["bert-base-uncased" if model is BERTForMaskedLM else "ModernBERT-base"][1]
    with pytest.raises(ValueError, match=re.escape(message)):
        model.config_table.load(published | attributes)


# -- what a sequence classifier learns from ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"num_labels": 1}, torch.tensor([0.3, -1.2, 0.7, 2.0])),
        ({"num_labels": 1}, torch.tensor([[0.3], [-1.2], [0.7], [2.0]])),
        ({"num_labels": 3, "problem_type": "regression"}, torch.linspace(-1, 1, 12).view(4, 3)),
        ({"num_labels": 3}, (torch.arange(12).view(4, 3) % 2).float()),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, (torch.arange(12).view(4, 3) % 2).float()),
        ({"num_labels": 4, "problem_type": "single_label_classification"}, torch.tensor([3, 0, 1, -100])),
    ],
    ids=["one number", "a column", "numbers", "several classes", "several classes, said", "one class"],
)
def test_loss_of_every_problem_equals_hugging_face(changes: dict, labels: Tensor, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    shape = dict(vocab_size=61, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=40)
    theirs = redraw(BertForSequenceClassification(BertConfig(**shape, **changes))).eval()
    theirs.save_pretrained(tmp_path)
    ours = BERTForSequenceClassification.from_pretrained(tmp_path)
    expected, got = theirs(X, PRESENT, labels=labels), ours(X, PRESENT, labels)
    close(got.logits.detach(), expected.logits.detach(), 1e-5, "logits")
    close(got.loss.detach(), expected.loss.detach(), 1e-5, "loss")
    ours.save_pretrained(tmp_path / "again")
    assert BERTForSequenceClassification.from_pretrained(tmp_path / "again").config == ours.config


@pytest.mark.parametrize("family", ["Roberta", "DistilBert", "ModernBert"])
def test_answers_of_the_other_families_equal_hugging_face(family: str, tmp_path: Path) -> None:
    import transformers

    shape = dict(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40)
    shape |= dict(pad_token_id=1, bos_token_id=None, eos_token_id=None, max_position_embeddings=40)
    shape |= dict(cls_token_id=None, sep_token_id=None) if family == "ModernBert" else {}
    if family == "DistilBert":
        shape["hidden_dim"] = shape.pop("intermediate_size")
    config = getattr(transformers, f"{family}Config")(**shape)
    theirs = redraw(getattr(transformers, f"{family}ForQuestionAnswering")(config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = glassformer.from_pretrained(tmp_path)
    ends: dict[str, Any] = dict(start_positions=torch.tensor([0, 0, 3, 99]), end_positions=torch.tensor([16, 0, 5, 40]))
    expected, got = theirs(X, PRESENT, **ends), ours(X, PRESENT, **ends)
    real = PRESENT.bool()
    for name in ("start_logits", "end_logits"):
        close(got[name][real].detach(), expected[name][real].detach(), 1e-5, name)
        close(ours(X, PRESENT)[name][real].detach(), expected[name][real].detach(), 1e-5, f"{name}, packed")
    close(got.loss.detach(), expected.loss.detach(), 1e-5, "loss")


# -- bad input ---------------------------------------------------------------------------------------------------------

IDS = torch.zeros(2, 5, dtype=torch.long)
ROW = IDS[:, 0]


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("kind", "inputs", "error", "message"),
    [
        (BERT, dict(input_ids=IDS + 61), ValueError, "input_ids holds 61 at (0, 0); the vocabulary has 61 ids"),
        (BERT, dict(input_ids=IDS[0]), ValueError, "input_ids has shape (5,); expected (batch, tokens)"),
        (BERT, dict(input_ids=IDS.float()), TypeError, "input_ids has dtype torch.float32; expected torch.int64"),
        (BERT, dict(input_ids=IDS, attention_mask=IDS[:, :4]), ValueError, "attention_mask has shape (2, 4); expected"),
        (BERT, dict(input_ids=IDS, token_type_ids=IDS[:1]), ValueError, "token_type_ids has shape (1, 5); expected"),
        (BERT, dict(input_ids=IDS, token_type_ids=IDS + 2), ValueError, "token_type_ids holds 2 at (0, 0); the model"),
        (BERT, dict(input_ids=IDS.repeat(1, 10)), ValueError, "50 tokens do not fit into the model's 48 positions"),
        (BERTForMaskedLM, dict(input_ids=IDS, labels=IDS[:, 1:]), ValueError, "labels have shape (2, 4); expected (2"),
        (BERTForMaskedLM, dict(input_ids=IDS, labels=IDS - 1), ValueError, "labels holds -1 at (0, 0)"),
        (BERTForTokenClassification, dict(input_ids=IDS, labels=IDS + 2), ValueError, "labels holds 2 at (0, 0); the"),
        (BERTForSequenceClassification, dict(input_ids=IDS, labels=IDS), ValueError, "(2, 5); expected (2,)"),
        (BERTForSequenceClassification, dict(input_ids=IDS, labels=torch.zeros(2, 3)), ValueError,
         "labels have shape (2, 3); expected (2, 2) for multi_label_classification"),
        (BERTForNextSentencePrediction, dict(input_ids=IDS, labels=ROW + 2), ValueError, "labels holds 2 at (0,)"),
        (BERTForQuestionAnswering, dict(input_ids=IDS, start_positions=ROW), ValueError, "are given together or not"),
        (BERTForQuestionAnswering, dict(input_ids=IDS, start_positions=IDS, end_positions=ROW), ValueError,
         "an answer's positions have shape (2, 5); expected (2,)"),
        (BERTForQuestionAnswering, dict(input_ids=IDS, start_positions=ROW, end_positions=ROW - 1), ValueError,
         "an answer's positions holds -1 at (0,); the text has 5 ids"),
    ],
)  # fmt: skip
def test_wrong_input_is_named(kind: Any, inputs: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        kind(BERTConfig(**TINY))(**inputs)


def test_models_that_know_no_segments_take_the_first_alone() -> None:
    model = encoder("distilbert")
    assert torch.equal(model(X, token_type_ids=X * 0).last_hidden_state, model(X).last_hidden_state)
    with pytest.raises(ValueError, match=r"token_type_ids holds 1 at .* the model has 1 ids, 0 to 0"):
        model(X, token_type_ids=X * 0 + 1)


def test_roberta_counts_its_positions_from_the_pad() -> None:
    assert create_model("roberta", **TINY).max_tokens == 46
    with pytest.raises(ValueError, match="47 tokens do not fit into the model's 46 positions"):
        create_model("roberta", **TINY)(torch.full((1, 47), 5))


@pytest.mark.parametrize("family", ["XLMRoberta", "Camembert"])
@pytest.mark.parametrize("head", ["MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering"])
def test_the_descendants_of_roberta_are_read_and_written_as_it(family: str, head: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = dict(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=56)
    config = getattr(transformers, f"{family}Config")(**shape, max_position_embeddings=48, type_vocab_size=1)
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{family}For{head}")(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = glassformer.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    again = getattr(transformers, f"RobertaFor{head}").from_pretrained(tmp_path / "ours").eval()
    output = "start_logits" if head == "QuestionAnswering" else "logits"
    with torch.no_grad():
        found = [model(input_ids=X)[output] for model in (theirs, ours, again)]
    assert type(ours).__name__ == f"RoBERTaFor{head}"
    for other in found[1:]:
        assert torch.allclose(found[0], other, atol=1e-5)


def test_an_answer_has_two_ends_and_no_other_classes() -> None:
    with pytest.raises(ValueError, match=r"labels=\('a', 'b', 'c'\) are no two"):
        BERTForQuestionAnswering(BERTConfig(**TINY, labels=("a", "b", "c")))


@pytest.mark.parametrize(("family", "head"), [("bert", "maskedlm"), ("gpt2", "masked_lm")])
def test_a_head_that_is_not_there_is_named(family: str, head: str) -> None:
    with pytest.raises(ValueError, match=rf"'{family}' has no head '{head}'"):
        create_model(family, head=head)
