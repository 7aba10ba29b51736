"""Make a stock checkpoint of mmdet or mmpretrain from one of others.

    python tools/model_tools/convert_checkpoint.py --from auto IN OUT

``auto`` tells by the keys where IN comes from; docs/en/checkpoints.md lists
what can be read. With ``--config`` the result is loaded strictly into the
model of that config before it is written.
"""

import argparse
import logging
from collections import OrderedDict

from gslora_mm.utils import ConfigError, SaveError, config_path, save_torch
from gslora_mm.utils.command_line import imports

#: All there are: the help must not wait for them to be imported.
NAMES = (
    'deformable_detr',
    'detr',
    'dino',
    'face_transformer',
    'hf_deformable_detr',
    'hf_detr',
    'hf_vit',
    'mmdet2_deformable_detr',
    'mmdet2_detr',
    'mmdet3_dino',
    'timm_vit',
    'torchvision_vit',
)
FLAGS = {'num_heads': '--num-heads', 'class_rows': '--class-rows'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Make a stock checkpoint of mmdet or mmpretrain from one '
        'of another code base.'
    )
    parser.add_argument(
        '--from',
        dest='source',
        default='auto',
        choices=['auto', *NAMES],
        help='where IN comes from; default: auto, told by its keys',
    )
    parser.add_argument('in_file', help='file or URL of the checkpoint')
    parser.add_argument('out_file', help='file to write, .pth')
    parser.add_argument(
        '--weights',
        metavar='ENTRY',
        help='entry of IN that holds the weights, if it has several',
    )
    parser.add_argument(
        '--num-heads',
        type=int,
        help='heads of a Face Transformer; default: 8',
    )
    parser.add_argument(
        '--class-rows',
        type=int,
        nargs='+',
        metavar='ROW',
        help="rows of a detector's classifier, from 0, in the order of the "
        "classes of the config; default: COCO's 80 of 91, all of another "
        'number',
    )
    parser.add_argument(
        '--config', help='a config whose model has to load the result'
    )
    parser.add_argument(
        '--allow-pickle',
        action='store_true',
        help='load a checkpoint that has to run code; only trusted ones',
    )
    return parser.parse_args(argv)


with imports(__name__, parse_args):
    from gslora_mm.models.converters import (
        SOURCES,
        recognise,
        words_for_config,
    )
    from gslora_mm.utils.checkpoint import (
        TOOL_FLAGS,
        load_checkpoint,
        load_state_dict_strictly,
        save_stock_checkpoint,
        state_dict_of,
        weight_entries,
    )


def convert(args: argparse.Namespace) -> None:
    """Read, convert, try out, write.

    Raises:
        ConfigError: If the checkpoint cannot be read or is of another
            model, or the result does not fit the config.
        SaveError: If the result cannot be written.
    """
    state_dict = read(args)
    name = args.source
    if name == 'auto':
        name = recognise(state_dict)
        if name is None:
            raise ConfigError(
                'IN',
                args.in_file,
                f'has keys of no known source, first {list(state_dict)[:3]}. '
                'Keys of mmdet 3 and mmpretrain need no conversion. Known: '
                f'{", ".join(SOURCES)}',
            )
    source = SOURCES[name]
    settings = {}
    for setting, flag in FLAGS.items():
        if (value := getattr(args, setting)) is not None:
            if setting not in source.settings:
                able = [n for n, s in SOURCES.items() if setting in s.settings]
                raise ConfigError(
                    flag, value, f'is for {", ".join(able)}, not {name}'
                )
            settings[setting] = value
    with config_path(renamed=FLAGS, context=f'IN = {args.in_file}'):
        converted = source.convert(state_dict, **settings)
    print(f'{args.in_file}: {source.title} (--from {name})')
    print(words_for_config(source, converted))
    if args.config:
        save_of_config(args.config, converted, args.out_file)
    else:
        save_torch(dict(meta={}, state_dict=converted), args.out_file)
    print(f'{args.out_file}: {len(converted)} tensors')


def read(args: argparse.Namespace) -> OrderedDict:
    """Read the weights, and say which if there are several."""
    with config_path(renamed=TOOL_FLAGS):
        checkpoint = load_checkpoint(args.in_file, args.allow_pickle, 'IN')
    entries = weight_entries(checkpoint)
    if args.weights and args.weights not in checkpoint:
        raise ConfigError(
            '--weights', args.weights, f'IN has {entries or list(checkpoint)}'
        )
    if len(entries) > 1:
        taken = args.weights or entries[0]
        print(f'{args.in_file}: {taken!r} of {entries}, see --weights')
    return state_dict_of(checkpoint, 'IN', args.weights)


def save_of_config(config: str, state_dict: OrderedDict, path: str) -> None:
    """Load the result strictly into the model of a config, and save that.

    Args:
        config (str): File of the config. Class names that it holds go into
            the checkpoint.
        state_dict (OrderedDict[str, Tensor]): The result.
        path (str): File to write.

    Raises:
        ConfigError: If the result does not fit the model.
    """
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from gslora_mm.registry import MODELS

    logging.disable(logging.INFO)
    cfg = Config.fromfile(config)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = MODELS.build(cfg.model)
    load_state_dict_strictly(model, state_dict, key=f'--config {config}')
    dataset = (cfg.get('train_dataloader') or {}).get('dataset', {})
    save_stock_checkpoint(model, dataset.get('metainfo') or {}, path)


def main(argv: list[str] | None = None) -> None:
    try:
        convert(parse_args(argv))
    except (ConfigError, SaveError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()
