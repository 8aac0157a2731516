"""`glassformer eval` measures what a model is for."""

import json
import math

import pytest
import torch

from glassformer.cli import main
from glassformer.models.bert import BERTConfig
from glassformer.models.bert_heads import BERTForMaskedLM, BERTForSequenceClassification
from glassformer.text import load_tokenizer, train_tokenizer

ROWS = [("the cat is good", "good"), ("the dog is bad", "bad"), ("a bird sings", "good")]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A folder whose model answers "bad" to everything, and a file of three rows."""
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = train_tokenizer("wordpiece", "\n".join(text for text, _ in ROWS) * 5, vocab_size=60)
    config = BERTConfig(
        vocab_size=tokenizer.vocab_size, dim=16, num_layers=1, num_heads=2, hidden_dim=32, max_positions=16,
        labels=("good", "bad"),
    )  # fmt: skip
    model = BERTForSequenceClassification(config)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([0.0, 1.0]))
    model.save_pretrained(folder)
    tokenizer.save(folder)
    data = folder / "data.tsv"
    data.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS))
    return folder, data


def test_a_classifier_is_measured_on_all_rows_of_a_file(classifier, capsys):
    folder, data = classifier
    assert main(["eval", "--model", str(folder), "--data", str(data), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx((0 + 0.5) / 2)
    assert (found["examples"], found["split"]) == (3, "all")
    assert main(["eval", "--model", str(folder), "--data", str(data)]) == 0
    assert "accuracy 0.3333" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--data is not given; BERTForSequenceClassification is measured on examples of classification"),
        (["--data", "DATA?label=text"], "which the model does not know"),
        (["--data", "DATA", "--num-beams", "4"], "--num-beams 4 has no effect"),
    ],
)
def test_what_does_not_go_with_the_model_is_one_sentence(classifier, capsys, arguments, said):
    folder, data = classifier
    given = [argument.replace("DATA", str(data)) for argument in arguments]
    assert main(["eval", "--model", str(folder), *given]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def masked(classifier, tmp_path):
    """A folder whose model finds every token equally probable but "a", which it says everywhere; and a text."""
    tokenizer = load_tokenizer(classifier[0])
    model = BERTForMaskedLM(BERTConfig(vocab_size=tokenizer.vocab_size, dim=16, num_layers=1, num_heads=2,
                                       hidden_dim=32, max_positions=16))  # fmt: skip
    with torch.no_grad():
        for parameter in model.transform.parameters():
            parameter.zero_()
        model.head.bias[tokenizer.encode("a")[0]] += 1e-3
    model.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    (tmp_path / "text.txt").write_text("a cat a dog a bird a\n" * 300)
    return tmp_path


def test_a_masked_language_model_is_measured_on_hidden_tokens(masked, capsys):
    text = str(masked / "text.txt")
    vocab_size = load_tokenizer(masked).vocab_size
    assert main(["eval", "--model", str(masked), "--data", text, "--split", "all", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["loss"] == pytest.approx(math.log(vocab_size), abs=2e-3)
    assert found["hidden"] == pytest.approx(0.15 * found["tokens"], rel=0.2)
    assert found["accuracy"] == pytest.approx(4 / 7, abs=0.1)
    assert main(["eval", "--model", str(masked), "--data", text, "--context", "8"]) == 0
    assert "hidden tokens among" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--data is not given; BERTForMaskedLM is measured on tokens hidden in a text"),
        (["--data", "TEXT", "--context", "17"], "--context 17 does not lie between 3, a token between [CLS] and [SEP]"),
        (["--data", "TEXT", "--stride", "4"], "--stride 4 has no effect: BERTForMaskedLM is for masked_lm"),
    ],
)
def test_a_masked_language_model_needs_a_text_and_a_row_of_its_size(masked, capsys, arguments, said):
    given = [argument.replace("TEXT", str(masked / "text.txt")) for argument in arguments]
    assert main(["eval", "--model", str(masked), *given]) == 2
    assert said in capsys.readouterr().err
