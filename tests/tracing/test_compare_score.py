"""Mistakes planted in our models and in Hugging Face's: where the first difference is, and what it is called."""

import copy
from functools import cache
from typing import Any

import planted_in_biases  # noqa: F401 (declares its own)
import planted_in_pictures  # noqa: F401 (declares its own)
import planted_in_theirs  # noqa: F401 (declares its own)
import planted_in_windows  # noqa: F401 (declares its own)
import pytest
import torch
from declared import DECLARED
from planted_differences import PLANTED, Planted
from properties import LEFT, both, without_labels

from glassformer.tracing import Divergence, compare

BY_NAME = {case.name: case for case in DECLARED}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(theirs, ours) of a declared model, made once, handed out as copies."""

    @cache
    def made(name: str) -> tuple[Any, Any]:
        return both(BY_NAME[name], str(tmp_path_factory.mktemp(name)))

    return lambda name: copy.deepcopy(made(name))


def looked_at(planted: Planted, pair: Any, patch: pytest.MonkeyPatch) -> tuple[Divergence, Divergence]:
    """The mistaken model held against the right one, and the right one against the mistaken."""
    case = BY_NAME[planted.model]
    theirs, ours = pair(planted.model)
    inputs = case.inputs()
    if planted.padded:
        assert case.kind.pad is not None
        inputs = case.kind.pad(inputs, LEFT)
    given = {"ours": without_labels(case, inputs), "theirs": case.kind.theirs(without_labels(case, inputs))}
    models = {"ours": ours, "theirs": theirs}
    right = "theirs" if planted.who == "ours" else "ours"
    given[planted.who] = {name: x for name, x in given[planted.who].items() if name not in planted.without}
    assert not planted.without or right == "ours"
    planted.plant(patch, models[planted.who])
    wrong_first = compare(models[planted.who], models[right], [given[planted.who], given[right]])
    right_first = compare(models[right], models[planted.who], [given[right], given[planted.who]])
    return wrong_first, right_first


def test_the_place_is_found_in_all_and_the_name_in_most(pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
    places, names, lines = 0, 0, []
    for planted in PLANTED:
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            found, turned = looked_at(planted, pair, patch)
        right_place = found.module == planted.place and turned.module_b == planted.place
        right_name = found.finding is not None and found.finding.key == planted.key
        places, names = places + right_place, names + right_name
        called = found.finding.key if found.finding else "nothing"
        mark = f"{'place' if right_place else '-----'} {'name' if right_name else '----'}"
        lines.append(f"{mark}  {planted.who:6} {planted.model:22} {planted.name}: {found.module} / {turned.module_b}, "
                     f"{called}")  # fmt: skip
        if not (right_place and right_name):
            lines.append(f"            expected {planted.place}, {planted.key}; {found.sentence}")
    score = f"{places} of {len(PLANTED)} places, {names} of {len(PLANTED)} names"
    with capsys.disabled():
        print("\n" + "\n".join([*lines, score]))
    assert len({(planted.key, planted.who) for planted in PLANTED}) >= 20
    assert places == len(PLANTED), score
    assert names >= 0.8 * len(PLANTED), score
