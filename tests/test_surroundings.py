"""The surroundings that conftest.py gives every test."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch


def test_a_test_that_reaches_beyond_this_machine_fails() -> None:
    with socket.socket() as outside, pytest.raises(PermissionError, match=r"192\.0\.2\.1.*offline"):
        outside.connect(("192.0.2.1", 80))


def test_local_sockets_work() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())


def test_the_library_keeps_nothing_in_the_users_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert Path(os.environ["GLASSFORMER_CACHE"]).is_relative_to(tmp_path_factory.getbasetemp())


def test_there_is_one_thread() -> None:
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("time", ["first", "second"])
def test_random_numbers_are_the_same_in_every_test(time: str) -> None:
    expected = torch.Generator().manual_seed(0)
    assert torch.equal(torch.randn(3), torch.randn(3, generator=expected))
    assert np.random.rand() == np.random.RandomState(0).rand()  # noqa: NPY002 (the generator that peers draw from)
