"""Predictions: those of the model's own logits one by one, in the order of the inputs, however long these are."""

import math

import pytest
import torch

from glassformer.metrics import judge
from glassformer.models.bert import BERTConfig
from glassformer.models.bert_heads import (
    BERTForMaskedLM,
    BERTForQuestionAnswering,
    BERTForSequenceClassification,
    BERTForTokenClassification,
)
from glassformer.models.gpt2 import GPT2, GPT2Config
from glassformer.models.t5 import T5, T5Config
from glassformer.prediction import (
    predict,
    predict_answers,
    predict_classes,
    predict_tags,
    predict_targets,
    task_of,
    text_likelihood,
)
from glassformer.text import train_tokenizer

WORDS = (
    "the", "cat", "sat", "on", "a", "mat", "while", "some", "old", "dogs", "slept", "near", "it", "and", "dreamt", "of",
    "bones", "under", "the", "moon",
)  # fmt: skip
TEXT = " ".join(WORDS) + ". "


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", TEXT * 5, vocab_size=60)


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def bert(kind, tokenizer, **settings):
    torch.manual_seed(0)
    config = BERTConfig(
        vocab_size=tokenizer.vocab_size, dim=16, num_layers=2, num_heads=2, hidden_dim=32, max_positions=24, **settings
    )
    model = kind(config).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.0 if name.endswith("bias") else 0.7)
    return model


def texts(count):
    chance = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 9, (count,), generator=chance).tolist()
    return [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(n)) for i, n in enumerate(lengths)]


def test_classes_are_those_of_each_text_alone(tokenizer):
    names = ("red", "green", "blue")
    model = bert(BERTForSequenceClassification, tokenizer, labels=names)
    found = predict_classes(model, tokenizer, texts(20), batch_size=6)
    expected = []
    for text in texts(20):
        ids = tokenizer.encode(text, special=True)[:24]
        ids[-1] = tokenizer.special["sep"]
        expected.append(names[model(torch.tensor([ids])).logits[0].argmax()])
    assert found == expected
    assert len(set(found)) > 1, "the order could not be told"
    assert predict_classes(model, tokenizer, []) == []


def test_a_long_text_is_cut_and_unnamed_classes_are_numbered(tokenizer):
    model = bert(BERTForSequenceClassification, tokenizer)
    (found,) = predict_classes(model, tokenizer, [TEXT * 10])
    assert found in ("LABEL_0", "LABEL_1")
    regression = bert(BERTForSequenceClassification, tokenizer, labels=("x",))
    with pytest.raises(ValueError, match="problem is 'regression'"):
        predict_classes(regression, tokenizer, ["x"])


def test_tags_are_those_of_first_tokens_and_none_is_missing(tokenizer):
    names = ("O", "B-PER", "I-PER")
    model = bert(BERTForTokenClassification, tokenizer, labels=names)
    sentences = [text.split() for text in texts(10)]
    found = predict_tags(model, tokenizer, sentences, batch_size=4)
    for words, tags in zip(sentences, found, strict=True):
        ids, firsts = [tokenizer.special["cls"]], []
        for word in words:
            firsts.append(len(ids))
            ids += tokenizer.encode(word)
        if len(ids) < 24:
            logits = model(torch.tensor([[*ids, tokenizer.special["sep"]]])).logits[0]
            assert tags == [names[logits[place].argmax()] for place in firsts]
    long = WORDS * 6  # far more than 24 tokens
    (tags,) = predict_tags(model, tokenizer, [long])
    assert len(tags) == len(long)
    assert set(tags) <= set(names)
    assert predict_tags(model, tokenizer, [[], ["cat"]])[0] == []


def test_the_answer_is_the_best_span_of_all_windows(tokenizer):
    model = bert(BERTForQuestionAnswering, tokenizer)
    question, context = "the cat", " ".join(WORDS)
    ids, spans = tokenizer.encode_with_offsets(context)
    asked = tokenizer.encode(question)
    room, best = 24 - len(asked) - 3, (-math.inf, "")
    for start in range(0, len(ids), 5):
        some, here = ids[start : start + room], spans[start : start + room]
        row, types = tokenizer.template.around(asked, some)
        output = model(torch.tensor([row]), token_type_ids=torch.tensor([types]))
        first = len(asked) + 2
        for i in range(len(some)):
            for j in range(i, min(i + 3, len(some))):
                score = float(output.start_logits[0, first + i] + output.end_logits[0, first + j])
                best = max(best, (score, context[here[i][0] : here[j][1]]))
        if start + room >= len(ids):
            break
    examples = [(question, context), ("dogs", "the cat"), (question, context)]
    found = predict_answers(model, tokenizer, examples, stride=5, max_answer=3, batch_size=2)
    assert found[0] == found[2] == best[1]
    assert found[1] in "the cat"
    with pytest.raises(ValueError, match="the context of question 0 is empty"):
        predict_answers(model, tokenizer, [("q", " ")])


@pytest.fixture(scope="module")
def translator():
    torch.manual_seed(0)
    tokenizer = train_tokenizer("bpe", TEXT * 5, vocab_size=300, special_tokens=["<pad>", "</s>"])
    model = T5(
        T5Config(
            vocab_size=tokenizer.vocab_size, dim=16, num_encoder_layers=1, num_heads=2, head_dim=8,
            hidden_dim=32, pad_token_id=tokenizer.special["pad"], eos_token_id=tokenizer.special["eos"],
            decoder_start_token_id=tokenizer.special["pad"],
        )
    ).eval()  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, tokenizer


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}])
def test_targets_are_what_is_generated_for_each_source_alone(translator, options):
    model, tokenizer = translator
    sources = texts(7)
    found = predict_targets(model, tokenizer, sources, batch_size=3, max_new_tokens=6, prefix="the ", **options)
    for source, target in zip(sources, found, strict=True):
        ids = [*tokenizer.encode("the " + source), tokenizer.special["eos"]]
        (alone,) = model.generate([ids], max_new_tokens=6, **options).tolist()
        special = {tokenizer.special["eos"], tokenizer.special["pad"]}
        assert target == tokenizer.decode([token for token in alone if token not in special]).strip()
    assert len(set(found)) > 1
    with pytest.raises(ValueError, match="num_return_sequences=2: each source gets one target"):
        predict_targets(model, tokenizer, sources, num_return_sequences=2)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    model = GPT2(GPT2Config(vocab_size=40, max_positions=16, dim=16, num_layers=1, num_heads=2)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize(("count", "context", "stride"), [(50, 8, 8), (50, 8, 3), (50, 8, 1), (9, 16, 5), (2, 4, 4)])
def test_each_token_is_predicted_once_from_what_its_window_shows(decoder, count, context, stride):
    ids = torch.randint(40, (count,), generator=torch.Generator().manual_seed(count)).tolist()
    nats, start, done = 0.0, 0, 0
    while done < count - 1:
        window = ids[start : min(start + context, count - 1) + 1]
        logs = decoder(torch.tensor([window])).logits[0].log_softmax(-1)
        for place in range(done - start, len(window) - 1):
            nats -= float(logs[place, window[place + 1]])
        done, start = start + len(window) - 1, start + stride
    found = text_likelihood(decoder, ids, context=context, stride=stride, batch_size=4)
    assert found.tokens == count - 1
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(nats / (count - 1)), rel=1e-5)


def test_a_smaller_stride_shows_more(decoder):
    ids = [1, 2, 3, 4] * 20
    seen = []
    forward = decoder.forward

    def counting(inputs, **given):
        seen.append((given["targets"] != -100).sum(1).tolist())
        return forward(inputs, **given)

    decoder.forward = counting
    try:
        text_likelihood(decoder, ids, context=8, stride=2)
    finally:
        del decoder.forward
    counts = [n for batch in seen for n in batch]
    assert counts[0] == 8
    assert set(counts[1:-1]) == {2}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ids": [1], "context": 4}, "1 tokens are too few"),
        ({"ids": [1, 2], "context": 4, "stride": 5}, "stride=5 must lie between 1 and the context of 4"),
        ({"ids": [1, 2], "context": 0}, "stride=0 must lie between 1"),
        ({"ids": [1, 2], "context": 17}, "17 tokens is more than the model's 16 positions"),
    ],
)
def test_windows_that_cannot_be_are_refused(decoder, arguments, said):
    with pytest.raises(ValueError, match=said):
        text_likelihood(decoder, arguments.pop("ids"), **arguments)


def test_a_models_class_says_what_it_is_for(tokenizer, translator, decoder):
    classifier = bert(BERTForSequenceClassification, tokenizer, labels=("a", "b"))
    assert task_of(classifier) == "classification"
    assert task_of(translator[0]) == "translation"
    assert task_of(decoder) == "language_model"
    examples = [{"text": text, "label": "a"} for text in texts(6)]
    found = predict(classifier, tokenizer, examples)
    assert 0 <= judge("classification", found, examples)["accuracy"] <= 1
    assert task_of(bert(BERTForMaskedLM, tokenizer)) == "masked_lm"
    with pytest.raises(ValueError, match="BERT predicts none of language_model, masked_lm, classification"):
        task_of(bert(BERTForMaskedLM, tokenizer).encoder)


def test_a_model_is_left_as_it_was_and_must_know_the_tokenizers_ids(tokenizer):
    model = bert(BERTForSequenceClassification, tokenizer).train()
    predict_classes(model, tokenizer, ["the cat"])
    assert model.training
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ ids and the model \d+"):
        predict_classes(model, train_tokenizer("wordpiece", TEXT * 5 + "xyz qw jk XYZ", vocab_size=90), ["cat"])
