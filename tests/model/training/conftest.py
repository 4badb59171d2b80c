"""How trainings run in tests."""

import pytest
import torch

from vexkd_model.training.train import quiet_lightning


@pytest.fixture(scope="module", autouse=True)
def one_thread_without_advice():
    """Tiny layers are slower on many threads, and these tests share their machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    quiet_lightning()
    yield
    torch.set_num_threads(threads)
