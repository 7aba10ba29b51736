"""Measure deformable attention on this CPU: ours against mmcv's fallback.

All take the same random input in turn, forward and backward, so that
whatever else the machine does falls on all; ratios are of these turns. The
defaults are an encoder layer of Deformable-DETR R50 at 384 x 384 pixels.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

from gslora_mm.utils.command_line import imports

STRIDES = (8, 16, 32, 64)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--size', type=int, default=384, help='of an image')
    parser.add_argument('--images', type=int, default=4)
    parser.add_argument('--heads', type=int, default=8)
    parser.add_argument('--channels', type=int, default=32, help='of a head')
    parser.add_argument('--levels', type=int, default=4)
    parser.add_argument('--points', type=int, default=4)
    parser.add_argument(
        '--queries', type=int, help='default: one for each pixel (encoder)'
    )
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='seconds of CPU time, where other jobs share the cores',
    )
    return parser.parse_args()


with imports(__name__, parse_args):
    import torch
    from mmcv.ops import multi_scale_deform_attn
    from torch import Tensor

    from gslora_mm.models.compiled_attention import compiled_attention
    from gslora_mm.models.deformable_attention import deformable_attention
    from gslora_mm.models.fast_attention import mmcv_fallback


def make_input(args: argparse.Namespace) -> tuple[Tensor, ...]:
    """Points two pixels around random places, as trained models have them."""
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor(
        [[args.size // stride] * 2 for stride in STRIDES[: args.levels]]
    )
    pixels = int(shapes.prod(1).sum())
    n, queries = args.images, args.queries or pixels
    samples = (n, queries, args.heads, args.levels, args.points)
    value = torch.randn(
        n, pixels, args.heads, args.channels, generator=generator
    )
    places = torch.rand(n, queries, 1, 1, 1, 2, generator=generator)
    around = 2 * torch.randn(*samples, 2, generator=generator)
    weights = torch.rand(samples, generator=generator)
    return value, shapes, places + around / shapes[:, None], weights


def run(
    function: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    clock: Callable[[], float],
) -> tuple[float, list[Tensor]]:
    """Seconds forward and backward, and output and gradients."""
    value, shapes, *rest = inputs
    leaves = [t.detach().requires_grad_() for t in (value, *rest)]
    start = clock()
    output = function(leaves[0], shapes, *leaves[1:])
    output.backward(torch.ones_like(output))
    seconds = clock() - start
    return seconds, [output.detach(), *(leaf.grad for leaf in leaves)]


def spread(values: list[float], unit: str = '') -> str:
    return (
        f'{statistics.median(values):.3f}{unit} '
        f'({min(values):.3f} to {max(values):.3f})'
    )


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    inputs = make_input(args)
    clock = time.process_time if args.cpu_time else time.perf_counter
    functions = {
        'mmcv': mmcv_fallback(multi_scale_deform_attn),
        'rows': deformable_attention,
        'compiled': compiled_attention,
    }
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(args.repeats + 1):
        found = {}
        for name, function in functions.items():
            spent, found[name] = run(function, inputs, clock)
            if i:  # the first warms up
                seconds[name].append(spent)
    print(f'{args.threads} thread(s), {os.cpu_count()} cores')
    for name, each in seconds.items():
        pairs = zip(each, seconds['mmcv'], strict=True)
        ratios = spread([ours / theirs for ours, theirs in pairs])
        print(f'{name:<9} {spread(each, " s")}, / mmcv {ratios}')
    for name in ('rows', 'compiled'):
        differences = [
            f'{what} {float((ours - theirs).norm() / theirs.norm()):.1e}'
            for what, ours, theirs in zip(
                ('output', 'value', 'locations', 'weights'),
                *(found[name], found['mmcv']),
                strict=True,
            )
        ]
        print(f'{name} differs by, of the norm: {", ".join(differences)}')


if __name__ == '__main__':
    main()
