"""Generated clips: the motion is there, and no single frame tells which it is."""

import numpy as np
import pytest
import torch

from glassformer.foundation.counting import draws
from glassformer.image.shapes import COLOURS
from glassformer.video.motions import MOTIONS, Motions, paths

FRAMES = 8


def _places(motion: str, count: int = 3000, seed: int = 2) -> np.ndarray:
    """(count, 3, t, 2) of clips of one motion, their numbers drawn as for no other motion."""
    which = MOTIONS.index(motion)
    return paths(np.full(count, which), draws(seed + which, range(count), 10), FRAMES)


def _wrapped(step: np.ndarray) -> np.ndarray:
    """The short way round."""
    return (step + 0.5) % 1 - 0.5


def _distance_from_even(values: np.ndarray) -> float:
    """Kolmogorov and Smirnov's, between values in [0, 1) and the even distribution."""
    return float(np.abs(np.sort(values) - np.arange(0.5, len(values)) / len(values)).max())


@pytest.mark.parametrize("motion", MOTIONS)
def test_each_frame_of_every_motion_has_the_same_distribution(motion: str) -> None:
    """By the argument in the module's docstring: A even, B − A of even direction, alike in length, independent of A."""
    places = _places(motion)
    a, apart = places[:, 0], _wrapped(places[:, 1] - places[:, 0])
    length = np.hypot(*apart.transpose(2, 0, 1))
    direction = np.arctan2(apart[..., 1], apart[..., 0]) / (2 * np.pi) % 1
    same = _places("left", seed=50)
    alike = np.hypot(*_wrapped(same[:, 1] - same[:, 0]).transpose(2, 0, 1))
    for t in range(FRAMES):
        for values in (a[:, t, 0], a[:, t, 1], direction[:, t]):
            assert _distance_from_even(values) < 0.04  # by chance: above 0.036 once in 1,700 times
        assert (
            np.abs(np.quantile(length[:, t], [0.1, 0.5, 0.9]) - np.quantile(alike[:, t], [0.1, 0.5, 0.9])).max() < 0.01
        )
        waves = [wave(2 * np.pi * a[:, t, i]) for wave in (np.cos, np.sin) for i in (0, 1)]
        turns = [wave(2 * np.pi * k * direction[:, t]) for wave in (np.cos, np.sin) for k in (1, 2)]
        assert max(abs(float(np.mean(w * u))) for w in waves for u in turns) < 0.05
    assert np.isnan(places[:, 2]).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_motion_is_what_its_name_says(motion: str) -> None:
    places = _places(motion, 200)
    a, b = places[:, 0], places[:, 1]
    steps = _wrapped(np.diff(a, axis=1)), _wrapped(np.diff(b, axis=1))
    apart = _wrapped(b - a)
    angle = np.arctan2(apart[..., 1], apart[..., 0])
    turned = np.unwrap(angle, axis=1)[:, -1] - angle[:, 0]
    if motion in ("left", "right", "up", "down"):
        axis, sign = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}[motion]
        for step in steps:
            assert (sign * step[..., axis] > 0.05).all()
            assert np.abs(step[..., 1 - axis]).max() < 1e-9
    elif motion == "bounce":
        np.testing.assert_allclose(steps[0], steps[1], atol=1e-9)
        assert (np.abs(steps[0]).min(axis=2) < 1e-9).all()  # along one axis
        along = np.take_along_axis(steps[0], np.abs(steps[0]).sum(axis=1).argmax(axis=1)[:, None, None], axis=2)
        assert ((along > 0.01).any(axis=1) & (along < -0.01).any(axis=1)).all()
    elif motion == "swap":
        np.testing.assert_allclose(_wrapped(a[:, -1] - b[:, 0]), 0, atol=1e-9)
        np.testing.assert_allclose(_wrapped(b[:, -1] - a[:, 0]), 0, atol=1e-9)
    else:
        assert np.abs(steps[0]).max() < 1e-9
        assert (turned > np.pi / 1.01).all() if motion == "orbit clockwise" else (turned < -np.pi / 1.01).all()


def _features(places: np.ndarray, frames: tuple[int, ...]) -> np.ndarray:
    """What can be seen of the places in these frames, wherever the picture is cut."""
    a, b = places[:, 0][:, frames], places[:, 1][:, frames]
    apart = _wrapped(b - a)
    rest = [_wrapped(np.diff(a, axis=1)), _wrapped(np.diff(b, axis=1))] if len(frames) > 1 else []
    return np.concatenate([part.reshape(len(places), -1) for part in (a, b, apart, *rest)], axis=1)


def test_a_classifier_of_single_frames_stays_at_chance_and_one_of_all_frames_does_not() -> None:
    """It is told the places, so that nothing need be learned but what they mean."""
    from sklearn.ensemble import RandomForestClassifier

    places = np.concatenate([_places(motion, 400) for motion in MOTIONS])
    labels = np.repeat(np.arange(8), 400)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:2400], order[2400:]

    def accuracy(frames: tuple[int, ...]) -> float:
        model = RandomForestClassifier(25, max_features=6, random_state=0)
        seen = _features(places, frames)
        return float(model.fit(seen[train], labels[train]).score(seen[test], labels[test]))

    for frame in (0, 4):
        assert accuracy((frame,)) < 0.125 + 0.045  # 0.0117 is one standard deviation of chance
    assert accuracy((0, 1, 2, 3, 4, 5, 6, 7)) > 0.9


def test_pixels_of_single_frames_say_nothing() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    clips, labels = Motions(size=16, seed=1).batch(range(1600))
    frames, labels = clips.float().flatten(2).numpy() / 255, labels.numpy()
    train, test = slice(1200), slice(1200, None)
    for frame in (0, 7):
        for model in (KNeighborsClassifier(5), LogisticRegression(C=0.01, max_iter=2000)):
            model.fit(frames[train, frame], labels[train])
            score = model.score(frames[test, frame], labels[test])
            assert score < 0.125 + 0.07  # chance has a standard deviation of 0.0165


def test_a_clip_shows_its_record() -> None:
    """A mean of where frames differ from the background moves as the record says."""
    world = Motions(size=48, seed=4, labels=("left", "right", "orbit clockwise"))
    numbers = range(40)
    clips, labels = world.batch(numbers)
    assert clips.shape == (40, 8, 3, 48, 48)
    assert clips.dtype == torch.uint8
    for clip, label, record in zip(clips, labels.tolist(), world.records(numbers), strict=True):
        assert record.motion == world.labels[label]
        assert len(record.tracks) in (2, 3)
        front = record.tracks[-1]  # nothing hides it
        if front.shape in ("ring", "crescent") or front.texture != "plain":
            continue
        for frame, (x, y) in zip(clip, front.places, strict=True):
            expected = torch.tensor(COLOURS[front.colour]) * 255
            assert (frame[:, int(y) % 48, int(x) % 48] - expected).abs().max() <= 1


def test_a_clip_is_the_same_in_whatever_batch_it_is_asked_for() -> None:
    world = Motions(size=24, seed=6)
    clips, labels = world.batch(range(30))
    again, same = world.batch([29, 3, 11])
    assert torch.equal(again, clips[[29, 3, 11]])
    assert torch.equal(same, labels[[29, 3, 11]])
    assert world.records([3])[0] == world.records(range(30))[3]
    assert not torch.equal(Motions(size=24, seed=7).batch([3])[0][0], clips[3])


def test_plain_clips_have_no_patterns_and_move_alike() -> None:
    clips, labels = Motions(size=32, seed=2, plain=True).batch(range(20))
    same, alike = Motions(size=32, seed=2).batch(range(20))
    assert torch.equal(labels, alike)
    assert not torch.equal(clips, same)
    for clip, record in zip(clips, Motions(size=32, seed=2, plain=True).records(range(20)), strict=True):
        assert {track.texture for track in record.tracks} == {"plain"}
        corner = clip[0].flatten(1)
        commonest = corner.T.unique(dim=0, return_counts=True)[1].max()
        assert commonest > 0.4 * 32 * 32  # one colour behind all


def test_every_motion_is_as_frequent() -> None:
    labels = [record.motion for record in Motions().records(range(4000))]
    counts = np.unique(labels, return_counts=True)[1]
    assert len(counts) == 8
    assert np.abs(counts - 500).max() < 90


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"frames": 2}, "frames=2"), ({"size": 8}, "size=8"), ({"labels": ("lft",)}, "no motion 'lft'.*'left'"),
    ({"labels": ()}, "one motion or more"), ({"seed": -3}, "this one is -3"),
])  # fmt: skip
def test_clips_that_cannot_be_are_refused(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Motions(**settings)
    with pytest.raises(ValueError, match="no clips"):
        Motions().batch([])
