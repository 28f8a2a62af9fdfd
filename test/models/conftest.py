from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine make small networks many times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
