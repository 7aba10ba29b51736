"""What a method carries from step to step, in a file of its own.

``step_XX/method.safetensors`` is written once a step, after the method has
looked at its data and before anything is trained. The next step starts from
it, and a resumed step reads its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.dist import barrier, is_main_process

from gslora_mm.datasets import ForgetRetainDataset
from gslora_mm.datasets.forget_retain import seeded
from gslora_mm.methods import BaseMethod
from gslora_mm.training import ForgettingModel
from gslora_mm.utils import ConfigError
from gslora_mm.utils.tensor_file import load_tensors, save_tensors
from gslora_mm.utils.text import shortened
from gslora_mm.work_dir import StepDir


def state_identity(
    method: BaseMethod, pretrained_sha256: str, classes: Sequence[str]
) -> dict[str, str]:
    """Metadata of a method's file: whose state it is.

    Args:
        method (BaseMethod): The method.
        pretrained_sha256 (str): Hash of the checkpoint that the sequence
            started from.
        classes (Sequence[str]): All classes, in label order.

    Returns:
        dict[str, str]: To be equal for a file to be used.
    """
    return dict(
        method=method.name,
        pretrained_sha256=pretrained_sha256,
        classes='\n'.join(classes),
    )


def load_state(
    method: BaseMethod,
    path: str | Path,
    identity: dict[str, str],
    key: str,
    is_given: bool = False,
) -> None:
    """Let a method take over the state in a file.

    Args:
        method (BaseMethod): The method.
        path (str | Path): The file.
        identity (dict[str, str]): As from :func:`state_identity`.
        key (str): Config key that errors name.
        is_given (bool): Whether the user gave the file to begin with, and no
            step of this sequence left it. Defaults to False.

    Raises:
        ConfigError: If there is no such file, if it is damaged, or if it is
            of another method, pre-trained checkpoint or set of classes.
    """
    tensors, metadata = load_tensors(path, f'{key} = {str(path)!r}')
    reasons = dict(
        method='it is of method {}, not {}',
        pretrained_sha256='it comes from a pre-trained checkpoint with '
        'SHA-256 {}; that of this sequence has {}',
        classes='its classes or their order differ: {} there, {} here',
    )
    for name, wanted in identity.items():
        if metadata.get(name) != wanted:
            words = [
                shortened((value or 'none').split('\n'), most=5)
                for value in (metadata.get(name), wanted)
            ]
            raise ConfigError(
                key,
                str(path),
                f'{reasons[name].format(*words)}. Valid: the file that a '
                'step with the same method, forgetting.pretrained and classes '
                'left (method.safetensors)',
            )
    load = method.load_given_state if is_given else method.load_carried_state
    try:
        load(tensors)
    except ValueError as error:
        raise ConfigError(key, str(path), str(error)) from error


def load_own_file(
    method: BaseMethod,
    config: Mapping,
    identity: dict[str, str],
) -> None:
    """Load the file that the user gave a method to begin with, if any.

    Args:
        method (BaseMethod): The method.
        config (Mapping): Its config.
        identity (dict[str, str]): As from :func:`state_identity`.

    Raises:
        ConfigError: See :func:`load_state`.
    """
    path = config.get(method.state_argument)
    if path is not None:
        key = f'method.{method.state_argument}'
        load_state(method, path, identity, key, is_given=True)


def prepare_method(
    model: ForgettingModel,
    dataset: ForgetRetainDataset,
    config: Mapping,
    step: Mapping,
    files: StepDir,
    resume: bool,
) -> None:
    """Give a method all that it needs before the first iteration.

    No generator of the training is touched. In several processes all do the
    same, and all end with what the first one has written.

    Args:
        model (ForgettingModel): With checkpoint and adapter in place.
        dataset (ForgetRetainDataset): The replay images of the step.
        config (Mapping): Config of the method.
        step (Mapping): ``forgetting_step`` of the step's config.
        files (StepDir): Work dir of the step.
        resume (bool): Whether the step goes on from a saved state.

    Raises:
        ConfigError: See :func:`load_state`.
    """
    method = model.method
    if not method.carries_state:
        with seeded(0):
            method.prepare(model, dataset)
        return
    identity = state_identity(
        method, step['pretrained_sha256'], dataset.metainfo['classes']
    )
    path = files.method_state
    is_made = resume and path.exists()
    if is_made:
        load_state(method, path, identity, 'the state of this step')
    elif step['method_state'] is not None:
        # Never made anew here: this model has forgotten already.
        key = 'forgetting_step.method_state'
        load_state(method, step['method_state'], identity, key)
    else:
        load_own_file(method, config, identity)
    with seeded(0):
        method.prepare(model, dataset)
    if not is_made:
        if is_main_process():
            save_tensors(method.carried_state(), path, identity)
        barrier()
    load_state(method, path, identity, 'the state of this step')
