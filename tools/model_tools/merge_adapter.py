"""Fold an adapter into the stock checkpoint that it was trained on.

    python tools/model_tools/merge_adapter.py CHECKPOINT ADAPTER OUT

No model is built. OUT is a stock checkpoint of mmdet or mmpretrain: the keys
of CHECKPOINT, its ``meta``, no optimizer and no adapter. Publish that one: a
base model beside its adapter is one subtraction away from what was erased.
"""

import argparse

from gslora_mm.lora import merge_adapter, read_adapter
from gslora_mm.utils import ConfigError, SaveError, save_torch
from gslora_mm.utils.checkpoint import load_checkpoint, state_dict_of


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Fold an adapter into the stock checkpoint that it was '
        'trained on, and save the result as a stock checkpoint.'
    )
    parser.add_argument('checkpoint', help='file or URL of the stock model')
    parser.add_argument('adapter', help='adapter.safetensors of a step')
    parser.add_argument('out', help='file to write, for example merged.pth')
    parser.add_argument(
        '--allow-pickle',
        action='store_true',
        help='load a checkpoint that has to run code; only trusted ones',
    )
    return parser.parse_args(argv)


def merge(args: argparse.Namespace) -> None:
    """Read both, fold, write.

    Raises:
        ConfigError: If a file cannot be read or the two do not fit.
        SaveError: If the result cannot be written.
    """
    checkpoint = load_checkpoint(
        args.checkpoint, args.allow_pickle, key='CHECKPOINT'
    )
    adapter, metadata = read_adapter(args.adapter)
    state_dict = merge_adapter(
        state_dict_of(checkpoint, key='CHECKPOINT'),
        adapter,
        float(metadata['alpha']),
    )
    meta = checkpoint.get('meta', {})
    save_torch(dict(meta=meta, state_dict=state_dict), args.out)
    print(
        f'{args.out}: {len(adapter) // 2} updates of rank '
        f'{metadata.get("rank")} folded in'
    )


def main(argv: list[str] | None = None) -> None:
    try:
        merge(parse_args(argv))
    except (ConfigError, SaveError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
