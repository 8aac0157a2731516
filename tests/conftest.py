"""What every test stands on: shapes checked, one thread, fixed seeds, a cache of its own, no network."""

import os
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

# Before torch and the hub are imported, and inherited by the processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("GLASSFORMER_CACHE", None)

import pytest
import shape_checks
from jaxtyping import config

CHECKED_ROOMS = ("ops", "parts", "generation", "models", "image", "video")
already = [name for name in sys.modules if name.startswith("glassformer.")]
assert not already, f"{already} were imported before the shape checks: keep imports of glassformer out of plugins"
shape_checks.install([f"glassformer.{room}" for room in CHECKED_ROOMS])


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the library keeps per machine (corpora, kernel measurements) goes to a folder of this run."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["GLASSFORMER_CACHE"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def _same_every_time() -> None:
    """One thread, and the same random numbers in each test whatever ran before it."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (peers draw from the global generator)
    random.seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches beyond this machine fails, naming the host; local sockets (kernels, gloo) pass."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and host not in ("localhost", "127.0.0.1", "::1", ""):
            raise PermissionError(f"a test tried to connect to {address!r}; tests run offline")
        return connect(self, address)  # pyright: ignore

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def no_shape_checks() -> Iterator[None]:
    """Shape checks off, as they are for users: for tests of the library's own errors, which the checks come before."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)
