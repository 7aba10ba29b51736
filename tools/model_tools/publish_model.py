"""Strip a checkpoint to what others need and put its hash in its name.

    python tools/model_tools/publish_model.py IN OUT

As mmdet's own tool: only ``meta`` and ``state_dict`` stay, no optimizer, no
schedule, no message hub, and ``OUT.pth`` becomes ``OUT-1a2b3c4d.pth`` with
the first 8 digits of its SHA-256, which torch.hub checks when it downloads
the file. Beyond it: the file appears complete or not at all, equal models
give equal files, nothing pickled is run, and a checkpoint with an adapter
beside its weights is refused. With ``--allow-pickle`` entries of ``meta``
that hold more than data are left out, so that others can load the result
without it.
"""

import argparse
import hashlib
import io
import pickle
import sys
from pathlib import Path

from gslora_mm.utils import ConfigError, SaveError, atomic_write, config_path
from gslora_mm.utils.command_line import imports


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


with imports(__name__, parse_args):
    import torch

    from gslora_mm.lora import split_adapter
    from gslora_mm.utils.checkpoint import (
        TOOL_FLAGS,
        load_checkpoint,
        state_dict_of,
    )
    from gslora_mm.utils.data_only import RefusedPickle, load_data_only


def publish(args: argparse.Namespace) -> Path:
    """Write the stripped checkpoint.

    Returns:
        Path: The file written, hash in its name.

    Raises:
        ConfigError: If the checkpoint cannot be read or holds an adapter.
        SaveError: If the result cannot be written.
    """
    with config_path(renamed=TOOL_FLAGS):
        checkpoint = load_checkpoint(args.in_file, args.allow_pickle, 'IN')
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
    meta = checkpoint.get('meta', {})
    if args.allow_pickle:
        left_out = [key for key in meta if not is_data({key: meta[key]})]
        meta = {k: v for k, v in meta.items() if k not in left_out}
        if left_out:
            print(
                f'left out of meta, more than data: {left_out}',
                file=sys.stderr,
            )
    published = dict(meta=meta, state_dict=state_dict)
    torch.save(published, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    out = Path(args.out_file)
    out = out.with_name(f'{out.name.removesuffix(".pth")}-{digest[:8]}.pth')
    with atomic_write(out) as file:
        file.write(buffer.getbuffer())
    return out


def is_data(value: object) -> bool:
    """Whether something can be saved, and read without running code."""
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        load_data_only(buffer)
    except (RefusedPickle, pickle.PickleError, AttributeError, TypeError):
        return False
    return True


def main(argv: list[str] | None = None) -> None:
    try:
        print(publish(parse_args(argv)))
    except (ConfigError, SaveError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
