"""Measure deformable attention on this CPU: rows against mmcv's fallback.

Both take the same random input in turn, forward and backward, so that
whatever else the machine does falls on both; ratios are of these pairs. The
defaults are an encoder layer of Deformable-DETR R50 at 384 x 384 pixels.
"""

import argparse
import os
import statistics
import time

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
    return parser.parse_args()


with imports(__name__, parse_args):
    import torch
    from mmcv.ops import multi_scale_deform_attn
    from torch import Tensor

    from gslora_mm.models.deformable_attention import (
        deformable_attention,
        mmcv_fallback,
    )


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


def run(function, inputs: tuple[Tensor, ...]) -> tuple[float, list[Tensor]]:
    """Seconds forward and backward, and output and gradients."""
    value, shapes, *rest = inputs
    leaves = [t.detach().requires_grad_() for t in (value, *rest)]
    start = time.perf_counter()
    output = function(leaves[0], shapes, *leaves[1:])
    output.backward(torch.ones_like(output))
    seconds = time.perf_counter() - start
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
    mmcv, rows = [], []
    for i in range(args.repeats + 1):
        slow, expected = run(mmcv_fallback(multi_scale_deform_attn), inputs)
        fast, found = run(deformable_attention, inputs)
        if i:  # the first warms up
            mmcv.append(slow)
            rows.append(fast)
    ratios = [fast / slow for fast, slow in zip(rows, mmcv, strict=True)]
    print(f'{args.threads} thread(s), {os.cpu_count()} cores')
    print(f'mmcv  {spread(mmcv, " s")}')
    print(f'rows  {spread(rows, " s")}')
    print(f'ratio {spread(ratios)}')
    names = ('output', 'value', 'locations', 'weights')
    for name, ours, theirs in zip(names, found, expected, strict=True):
        distance = (ours - theirs).norm() / theirs.norm()
        print(f'{name:<10} differs by {float(distance):.1e} of its norm')


if __name__ == '__main__':
    main()
