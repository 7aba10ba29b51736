"""Make a stock checkpoint of mmpretrain from one of another code base.

    python tools/model_tools/convert_checkpoint.py --from face_transformer \
        IN OUT

``face_transformer``: https://github.com/zhongyy/Face-Transformer, the
model of the papers' face experiments, for configs/face_transformer.
``torchvision_vit``: torchvision's vit_b_16 and its relatives, for
configs/vit. With ``--config`` the result is loaded strictly into the model of
that config before it is written.
"""

import argparse
import logging
from collections import OrderedDict

from gslora_mm.models.converters import CONVERTERS
from gslora_mm.utils import ConfigError, SaveError, config_path, save_torch
from gslora_mm.utils.checkpoint import (
    TOOL_FLAGS,
    load_checkpoint,
    load_state_dict_strictly,
    save_stock_checkpoint,
    state_dict_of,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Make a stock checkpoint of mmpretrain from one of '
        'another code base.'
    )
    parser.add_argument(
        '--from', dest='source', required=True, choices=sorted(CONVERTERS)
    )
    parser.add_argument('in_file', help='file or URL of the checkpoint')
    parser.add_argument('out_file', help='file to write, .pth')
    parser.add_argument(
        '--num-heads',
        type=int,
        help='heads of a Face Transformer; default: 8',
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


def convert(args: argparse.Namespace) -> None:
    """Read, convert, try out, write.

    Raises:
        ConfigError: If the checkpoint cannot be read or is of another
            model, or the result does not fit the config.
        SaveError: If the result cannot be written.
    """
    settings = {}
    if args.num_heads is not None:
        if args.source != 'face_transformer':
            raise ConfigError(
                '--num-heads',
                args.num_heads,
                f'is for face_transformer, not {args.source}',
            )
        settings['num_heads'] = args.num_heads
    with config_path(renamed=TOOL_FLAGS):
        checkpoint = load_checkpoint(args.in_file, args.allow_pickle, 'IN')
    state_dict = state_dict_of(checkpoint, key='IN')
    with config_path(context=f'IN = {args.in_file}'):
        state_dict = CONVERTERS[args.source](state_dict, **settings)
    if args.config:
        save_of_config(args.config, state_dict, args.out_file)
    else:
        save_torch(dict(meta={}, state_dict=state_dict), args.out_file)
    print(f'{args.out_file}: {len(state_dict)} tensors')


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
