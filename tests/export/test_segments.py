import copy

import pytest
import torch
from tiny_network import network

from exitkit.export import segments


@pytest.mark.parametrize("exits", [(1, 2, 3), (2, 3), (1, 3), (3,), (2,), (1, 2)])
def test_segments_in_a_row_are_the_network(exits: tuple[int, ...]) -> None:
    net = network().eval()
    images = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        whole = {answer.number: answer.logits for answer in net(images)}
        hidden = images
        pieces = segments.cut(net, exits)
        for piece in pieces:
            logits, *rest = piece(hidden)
            assert torch.equal(logits, whole[piece.exit])
            hidden = rest[0] if rest else None
    assert tuple(piece.exit for piece in pieces) == exits
    assert hidden is None  # the deepest kept exit hands nothing on
    assert [len(piece.outputs) for piece in pieces] == [2] * (len(exits) - 1) + [1]


def test_stages_and_heads_that_nobody_asked_for_are_in_no_segment() -> None:
    pieces = segments.cut(network(), (2,))
    names = {name.split(".classifier")[0] for name, _ in pieces[0].named_parameters()}
    assert not [n for n in names if ".heads.1." in n or ".heads.3." in n or ".stages.3." in n]
    assert len(pieces) == 1
    assert pieces[0].piece.exits == (2,)


def test_the_callers_network_is_not_touched() -> None:
    net = network().to(memory_format=torch.channels_last)
    before = copy.deepcopy(net.state_dict())
    pieces = segments.cut(net, (2, 3))
    with torch.no_grad():
        for parameter in pieces[0].parameters():
            parameter.zero_()
    assert net.training
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module.training for piece in pieces for module in piece.modules())


def test_input_shapes_follow_the_images() -> None:
    net = network()
    assert segments.input_shapes(segments.cut(net, (1, 2, 3)), 8, 8) == (
        (3, 8, 8),
        (4, 8, 8),
        (6, 4, 4),
    )
    assert segments.input_shapes(segments.cut(net, (2, 3)), 10, 6) == ((3, 10, 6), (6, 5, 3))
