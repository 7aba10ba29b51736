"""Fold an adapter into the stock checkpoint that it was trained on.

    python tools/model_tools/merge_adapter.py CHECKPOINT ADAPTER OUT
    python tools/model_tools/merge_adapter.py TRAINING_CHECKPOINT OUT

The first takes a stock checkpoint and an adapter file; the second what a run
of an AdaptedModel saves on its way (``epoch_3.pth``), which holds both. No
model is built. OUT is a stock checkpoint of mmdet or mmpretrain: no optimizer
and no adapter. After an erasure, publish that one: a base model beside its
adapter is one subtraction away from what was erased.
"""

import argparse
from collections import OrderedDict
from typing import Any

from gslora_mm.utils import ConfigError, SaveError, config_path, save_torch
from gslora_mm.utils.command_line import imports


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Fold an adapter into the stock checkpoint that it was '
        'trained on, and save the result as a stock checkpoint.'
    )
    parser.add_argument(
        'checkpoint',
        help='file or URL of the stock model, or, without ADAPTER, '
        'checkpoint of a training run of an AdaptedModel',
    )
    parser.add_argument(
        'adapter', nargs='?', help='adapter.safetensors of a step or a run'
    )
    parser.add_argument('out', help='file to write, for example merged.pth')
    parser.add_argument(
        '--allow-pickle',
        action='store_true',
        help='load a checkpoint that has to run code; only trusted ones',
    )
    return parser.parse_args(argv)


with imports(__name__, parse_args):
    from gslora_mm.lora import merge_adapter, read_adapter, split_adapter
    from gslora_mm.utils.checkpoint import (
        STOCK_PREFIX,
        TOOL_FLAGS,
        load_checkpoint,
        state_dict_of,
    )


def merge(args: argparse.Namespace) -> None:
    """Read, fold, write.

    Raises:
        ConfigError: If a file cannot be read or the two do not fit.
        SaveError: If the result cannot be written.
    """
    with config_path(renamed=TOOL_FLAGS):
        checkpoint = load_checkpoint(
            args.checkpoint, args.allow_pickle, key='CHECKPOINT'
        )
    meta = checkpoint.get('meta', {})
    state_dict = state_dict_of(checkpoint, key='CHECKPOINT')
    if args.adapter is None:
        state_dict, adapter, settings = take_apart(checkpoint, state_dict)
        meta = {k: v for k, v in meta.items() if k == 'dataset_meta'}
    else:
        adapter, settings = read_adapter(args.adapter)
    merged = merge_adapter(state_dict, adapter, float(settings['alpha']))
    save_torch(dict(meta=meta, state_dict=merged), args.out)
    print(
        f'{args.out}: {len(adapter) // 2} updates of rank '
        f'{settings.get("rank")} folded in'
    )


def take_apart(
    checkpoint: dict, state_dict: OrderedDict
) -> tuple[OrderedDict, OrderedDict, dict[str, Any]]:
    """Take stock model and adapter from a checkpoint of an AdaptedModel.

    Returns:
        tuple[OrderedDict, OrderedDict, dict]: Weights and adapter, both with
        the stock model's keys, and the settings of the adapter.

    Raises:
        ConfigError: If it is no such checkpoint.
    """
    info = checkpoint.get('message_hub', {}).get('runtime_info', {})
    stock, adapter = split_adapter(
        OrderedDict(
            (key.removeprefix(STOCK_PREFIX), value)
            for key, value in state_dict.items()
            if key.startswith(STOCK_PREFIX)
        )
    )
    if not adapter or 'adapter' not in info:
        raise ConfigError(
            'CHECKPOINT',
            valid='not that of a training run of an AdaptedModel with an '
            'adapter; name the file of the adapter behind a stock checkpoint',
        )
    return stock, adapter, info['adapter']


def main(argv: list[str] | None = None) -> None:
    try:
        merge(parse_args(argv))
    except (ConfigError, SaveError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
