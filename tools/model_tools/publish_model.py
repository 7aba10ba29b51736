"""Strip a checkpoint to what others need and put its hash in its name.

    python tools/model_tools/publish_model.py IN OUT

As mmdet's own tool: only ``meta`` and ``state_dict`` stay, no optimizer, no
schedule, no message hub, and ``OUT.pth`` becomes ``OUT-1a2b3c4d.pth`` with
the first 8 digits of its SHA-256, which torch.hub checks when it downloads
the file. Beyond it: the file appears complete or not at all, equal models
give equal files, nothing pickled is run, and a checkpoint with an adapter
beside its weights is refused.
"""

import argparse
import hashlib
import io
from pathlib import Path

import torch

from gslora_mm.lora import split_adapter
from gslora_mm.utils import ConfigError, SaveError, atomic_write
from gslora_mm.utils.checkpoint import load_checkpoint, state_dict_of


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Strip a checkpoint to meta and weights and put its '
        'hash in its name.'
    )
    parser.add_argument('in_file', help='checkpoint to publish')
    parser.add_argument('out_file', help='name to publish it under, .pth')
    parser.add_argument(
        '--allow-pickle',
        action='store_true',
        help='load a checkpoint that has to run code; only trusted ones',
    )
    return parser.parse_args(argv)


def publish(args: argparse.Namespace) -> Path:
    """Write the stripped checkpoint.

    Returns:
        Path: The file written, hash in its name.

    Raises:
        ConfigError: If the checkpoint cannot be read or holds an adapter.
        SaveError: If the result cannot be written.
    """
    checkpoint = load_checkpoint(args.in_file, args.allow_pickle, key='IN')
    state_dict = state_dict_of(checkpoint, key='IN')
    adapter = list(split_adapter(state_dict)[1])
    if adapter:
        raise ConfigError(
            'it holds an adapter beside the weights '
            f'({len(adapter)} keys, first {adapter[0]}), which gives away '
            'the model before the erasure; publish merged.pth',
            context=f'IN = {args.in_file}',
        )
    for key, value in state_dict.items():
        # A view would drag its whole storage along; tensors of shared layers
        # are one storage each and stay shared.
        if value.nbytes != value.untyped_storage().nbytes():
            state_dict[key] = value.clone()
    buffer = io.BytesIO()
    published = dict(meta=checkpoint.get('meta', {}), state_dict=state_dict)
    torch.save(published, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    out = Path(args.out_file)
    out = out.with_name(f'{out.name.removesuffix(".pth")}-{digest[:8]}.pth')
    with atomic_write(out) as file:
        file.write(buffer.getbuffer())
    return out


def main(argv: list[str] | None = None) -> None:
    try:
        print(publish(parse_args(argv)))
    except (ConfigError, SaveError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
