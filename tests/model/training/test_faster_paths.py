"""A training by the faster paths of a CPU has the losses of one by PyTorch's own operators."""

import torch

from vexkd_model import layers
from vexkd_model.criterion import build_criterion
from vexkd_model.data.loader import training_loader
from vexkd_model.model import build_model
from vexkd_model.training.schedule import optimiser_and_schedule

STEPS = 10


def losses_of(config, batch):
    torch.manual_seed(1)
    model, criterion = build_model(config).train(), build_criterion(config)
    optimiser, schedule = optimiser_and_schedule(config.training, model, None, STEPS)
    losses = []
    for _ in range(STEPS):
        loss = sum(criterion(model(batch.sensors), batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def test_ten_steps_have_the_losses_of_pytorchs_operators(tiny_config, tiny_index, monkeypatch):
    batch = next(iter(training_loader(tiny_config, tiny_index, workers=0)))
    taken = []
    convolve = layers._Convolution.forward
    monkeypatch.setattr(layers._Convolution, "forward", staticmethod(lambda *a: taken.append(1) or convolve(*a)))
    monkeypatch.setattr(layers, "_has_avx512", lambda: False)
    faster = losses_of(tiny_config, batch)
    assert taken
    taken.clear()
    with layers.reference_operators():
        expected = losses_of(tiny_config, batch)
    assert not taken
    torch.testing.assert_close(faster, expected, rtol=1e-3, atol=0)
    assert expected[-1] < expected[0]
