"""The tasks' batches: labels at the right places, gaps that close again, nothing lost or repeated; fine-tuning."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassformer.models.bert import BERTConfig
from glassformer.models.bert_heads import BERTForMaskedLM, BERTForSequenceClassification
from glassformer.text import train_tokenizer
from glassformer.training import AdamWConfig, ModelOptimizer, load_recipe
from glassformer.training.batches import Batch, ExampleLoader, padded, presence
from glassformer.training.init import Init, freeze, rates, take_weights
from glassformer.training.tasks.best_sentence import best_sentence
from glassformer.training.tasks.denoising import Corruption
from glassformer.training.tasks.masked_lm import Masking
from glassformer.training.tasks.question_answering import best_span, windows
from glassformer.training.tasks.tagging import tagged_row
from glassformer.training.tasks.translation import pairs

SMALL = BERTConfig(vocab_size=20, max_positions=8, dim=8, num_layers=3, num_heads=2, hidden_dim=16)


def test_eighty_ten_ten_of_the_rate_and_labels_only_there() -> None:
    masking = Masking(rate=0.15, cls=0, sep=1, mask=2, ordinary=np.arange(5, 1000))
    windows = np.random.default_rng(0).integers(5, 1000, (400, 100))
    batch = masking(windows, np.random.default_rng(1))
    inputs, labels = (batch.inputs[name].numpy() for name in ("input_ids", "labels"))
    assert (inputs[:, 0] == 0).all()
    assert (inputs[:, -1] == 1).all()
    assert (labels[:, [0, -1]] == -100).all()
    inside, chosen = inputs[:, 1:-1], labels[:, 1:-1] != -100
    assert chosen.mean() == pytest.approx(0.15, abs=0.01)
    assert (labels[:, 1:-1][chosen] == windows[chosen]).all()
    assert (inside[~chosen] == windows[~chosen]).all()
    masked, kept = inside[chosen] == 2, inside[chosen] == windows[chosen]
    assert masked.mean() == pytest.approx(0.8, abs=0.02)
    assert kept.mean() == pytest.approx(0.1, abs=0.02)
    assert inside[chosen][~masked].min() >= 5


def test_sentinels_give_the_text_back_and_lengths_are_always_the_same() -> None:
    corruption = Corruption(length=40, num_hidden=6, num_spans=2, sentinels=(99, 98, 97), eos=1)
    windows = np.random.default_rng(0).integers(5, 90, (200, 40))
    batch = corruption(windows, np.random.default_rng(3))
    assert batch.inputs["input_ids"].shape == (200, corruption.source_length) == (200, 37)
    assert batch.inputs["labels"].shape == (200, corruption.target_length) == (200, 10)
    for row, source, target in zip(windows, *batch.inputs.values(), strict=True):
        assert corruption.restore(source.tolist(), target.tolist()) == row.tolist()
        assert target[-2:].tolist() == [97, 1]
        assert source.tolist().index(99) < source.tolist().index(98)


def test_the_best_sentence_shares_the_rarest_words_with_the_question() -> None:
    def example(question: str, context: str, answer: str) -> dict[str, Any]:
        return {"question": question, "context": context, "answers": [{"text": answer, "start": 0}]}

    examples = [
        example("What does the owl eat?", "Cat and dog eat. The owl does hunt. What is it?", "The owl does hunt."),
        example("What does the dog see?", "The dog and the cat eat. What does it see?\nNothing", "What does it see?"),
    ]
    assert best_sentence(examples) == {"exact_match": 1.0, "f1": 1.0}


def test_of_overlapping_windows_one_at_least_holds_the_answer_and_the_best_span_is_found_in_it() -> None:
    tokenizer = train_tokenizer("wordpiece", "some words of a text to be read again and again " * 4, vocab_size=60)
    text = " ".join(["some words of a text to be read"] * 9) + " again and again"
    answer = {"text": "again and", "start": text.index("again and")}
    rows = windows(tokenizer, {"context": text, "question": "some words", "answers": [answer]}, 40, 12)
    whole = [row for row in rows if row[2:4] != (0, 0)]
    assert len(rows) > 3
    assert whole
    for row in whole:
        start, end = torch.full((2, len(row[0])), -1.0)
        start[row[2]], end[row[3]] = 5.0, 5.0
        start[0] = end[0] = 9.0  # the question is no answer
        score, first, last = best_span(start, end, row, 10)
        assert (score, text[first:last]) == (10.0, answer["text"])
    row = whole[0]
    start, end = torch.zeros(2, len(row[0]))
    start[row[4]] = end[row[4] + 20] = 5.0  # 21 tokens: longer than an answer may be
    assert best_span(start, end, row, 10)[0] == 5.0


def loader(seed: int = 0) -> ExampleLoader:
    rows = [[i] * (1 + i % 17) for i in range(1003)]

    def make(numbers: np.ndarray) -> Batch:
        some = [rows[i] for i in numbers]
        ids = padded(some, 0)
        return Batch(inputs={"input_ids": ids, "labels": ids, "attention_mask": presence(some)}, target="labels",
                     units=sum(map(len, some)))  # fmt: skip

    return ExampleLoader([len(row) for row in rows], make, batch_size=8, seed=seed, content=rows)


def test_an_epoch_has_each_example_once_in_a_new_order_with_little_padding() -> None:
    batches = loader()
    epochs = [[next(batches) for _ in range(batches.batches_per_epoch)] for _ in range(2)]
    seen = [[int(row[0]) for batch in epoch for row in batch.inputs["input_ids"]] for epoch in epochs]
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(1003))
    assert seen[0] != seen[1]
    cells = sum(batch.inputs["input_ids"].numel() for batch in epochs[0])
    assert sum(batch.units for batch in epochs[0]) > 0.9 * cells


@pytest.mark.parametrize("steps", [0, 5, 126, 200])
def test_examples_go_on_mid_epoch_to_the_bit(steps: int) -> None:
    whole, first, second = loader(), loader(), loader()
    for _ in range(steps):
        next(whole), next(first)
    second.load_state_dict(first.state_dict())
    for _ in range(140):
        assert next(whole).inputs["input_ids"].equal(next(second).inputs["input_ids"])
    with pytest.raises(ValueError, match="seed=0, but this loader has seed=1"):
        loader(1).load_state_dict(first.state_dict())


def test_a_tag_stands_at_the_first_token_of_its_word() -> None:
    ids = {"cls": 0, "sep": 1, "unk": 3}
    row = tagged_row([[5, 6], [7], [], [8, 9, 9]], [1, 0, 2, 1], ids, 7)
    assert row == ([0, 5, 6, 7, 3, 1], [-100, 1, -100, 0, 2, -100])


def test_targets_are_padded_with_what_does_not_count() -> None:
    batch = pairs([([4, 5, 1], [6, 1]), ([7, 1], [8, 9, 9, 1])], pad=0)
    assert batch.inputs["input_ids"].tolist() == [[4, 5, 1], [7, 1, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.inputs["labels"].tolist() == [[6, 1, -100, -100], [8, 9, 9, 1]]
    assert (batch.counted, batch.units) == (6, 11)


def test_the_encoder_is_taken_the_head_is_new_and_said_so() -> None:
    trained, model = BERTForMaskedLM(SMALL), BERTForSequenceClassification(SMALL)
    new = take_weights(model, trained, "there")
    assert {name.removesuffix(".weight").removesuffix(".bias") for name in new} == {"encoder.pooler.dense", "head"}
    for name, parameter in trained.encoder.named_parameters():
        assert parameter.equal(model.encoder.get_parameter(name)), name


def test_what_is_frozen_does_not_move_and_a_wrong_pattern_gets_the_nearest() -> None:
    model = BERTForSequenceClassification(SMALL)
    frozen = freeze(model, ("embed", "blocks.0-1"))
    assert Counter(name.split(".")[1] for name in frozen)["blocks"] == 2 * 16
    assert not model.encoder.embed.weight.requires_grad
    assert model.encoder.get_parameter("blocks.2.attention.query.weight").requires_grad
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = ModelOptimizer(model, AdamWConfig())
    model(torch.tensor([[3, 4]]), labels=torch.tensor([1])).loss.backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if not name.endswith("key.bias") or name in frozen:  # it adds the same to all of a row's scores: no gradient
            assert parameter.equal(before[name]) == (name in frozen), name
    with pytest.raises(ValueError, match=r"freeze names 'block\.0', .*did you mean 'blocks\.0'"):
        freeze(model, ("block.0",))


def test_rates_fall_from_the_head_down() -> None:
    model = BERTForSequenceClassification(SMALL)
    found = rates(model, Init(layer_decay=0.5, head_rate=3.0))
    assert found["head.weight"] == 3.0
    assert [found[f"encoder.blocks.{i}.attention.query.weight"] for i in (2, 1, 0)] == [0.5, 0.25, 0.125]
    assert found["encoder.embed.weight"] == 0.0625
    optimizer = ModelOptimizer(model, AdamWConfig(learning_rate=1.0), found)
    for group in optimizer.groups():
        for parameter in group["params"]:
            name = next(name for name, other in model.named_parameters() if other is parameter)
            assert group["lr"] == found[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.name": "t5"}, "'t5', which has no head for 'masked_lm'"),
        ({"task.name": "denoising"}, "has not both an encoder and a decoder"),
        ({"task.name": "language_model"}, "trains a decoder"),
        ({"task.name": "masked_ml"}, "did you mean 'masked_lm'"),
        ({"task.rate": "2"}, "rate=2.0 must lie between"),
    ],
)
def test_what_cannot_work_together_is_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    path = tmp_path / "mlm.toml"
    size = "" if change.get("model.name") else "dim = 8\nnum_heads = 2\n"
    rate = "" if "task.name" in change else "rate = 0.15\n"
    path.write_text(f'[task]\nname = "masked_lm"\n{rate}[model]\nname = "bert"\n{size}')
    with pytest.raises(ValueError, match=message):
        load_recipe(path, change)


def test_a_folder_that_a_recipe_would_make_is_asked_for_by_name() -> None:
    with pytest.raises(FileNotFoundError, match="'glassformer train nowhere_mlm' makes it"):
        Init(source="runs/nowhere_mlm/model").folder()
