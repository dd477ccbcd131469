import torch

from voco2d.training.tensor_traffic import count_traffic

FLOAT = 4


def test_each_tensor_counts_once_an_operator() -> None:
    a, b = torch.rand(8, 16), torch.rand(16, 4)
    assert count_traffic(lambda: torch.mm(a, b)) == FLOAT * (8 * 16 + 16 * 4 + 8 * 4)
    assert count_traffic(lambda: a + a) == FLOAT * 3 * 8 * 16
    assert count_traffic(lambda: a.to(torch.bfloat16)) == (FLOAT + 2) * 8 * 16


def test_views_move_nothing_and_repeated_values_are_stored_once() -> None:
    a = torch.rand(8, 16)
    assert count_traffic(lambda: a.view(16, 8).transpose(0, 1)[2:]) == 0
    row = torch.rand(1, 16)
    assert count_traffic(lambda: a + row.expand(8, 16)) == FLOAT * (8 * 16 + 16 + 8 * 16)


def test_what_is_changed_in_place_is_read_and_written() -> None:
    a, b = torch.rand(10), torch.rand(10)
    assert count_traffic(lambda: a.add_(b)) == FLOAT * 3 * 10
    many, more = [torch.rand(10), torch.rand(5)], [torch.rand(10), torch.rand(5)]
    assert count_traffic(lambda: torch._foreach_add_(many, more)) == FLOAT * 3 * 15


def test_both_ways_of_a_step_count() -> None:
    layer = torch.nn.Linear(16, 4, bias=False)
    x = torch.rand(8, 16)
    forward = count_traffic(lambda: layer(x))
    assert forward == FLOAT * (8 * 16 + 16 * 4 + 8 * 4)
    assert count_traffic(lambda: layer(x).sum().backward()) > 2 * forward
    assert layer.weight.grad is not None
