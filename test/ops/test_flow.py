from __future__ import annotations

import torch

from sembox_ros.ops.flow import FLOW_UNITS, normalise_flow, resize_flow


def test_resized_flow_points_to_the_same_place_in_the_resized_image() -> None:
    flow = torch.stack((torch.full((40, 60), 6.0), torch.full((40, 60), -4.0)))
    resized = resize_flow(flow, (20, 90))
    assert resized.shape == (2, 20, 90)
    assert torch.allclose(resized[0], torch.tensor(9.0))
    assert torch.allclose(resized[1], torch.tensor(-2.0))


def test_flow_of_the_same_size_is_left_alone() -> None:
    flow = torch.rand(2, 8, 9)
    assert resize_flow(flow, (8, 9)) is flow


def test_normalised_flow_does_not_depend_on_the_canvas() -> None:
    small, large = torch.tensor([4.0, -2.0]), torch.tensor([8.0, -4.0])
    assert torch.equal(normalise_flow(small, 256), normalise_flow(large, 512))
    assert float(normalise_flow(torch.tensor(16.0), 512)) == FLOW_UNITS / 32
