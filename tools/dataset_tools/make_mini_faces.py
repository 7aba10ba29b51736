"""Make the ``mini_faces`` data set of the mini configs.

python tools/dataset_tools/make_mini_faces.py --root data/mini_faces
"""

from gslora_mm.toy_data import MiniFaces
from gslora_mm.toy_data.command_line import make_from_command_line
from gslora_mm.utils.command_line import end_in_one_line


def main() -> None:
    make_from_command_line(
        MiniFaces,
        'Drawn portraits in folders of identities, made in seconds. Does '
        'nothing where the data set is already complete.',
        '{num_train} training, {num_val} validation, {num_tune} tuning and '
        '{num_test} test pictures of {num_ids} identities are ready',
    )


if __name__ == '__main__':
    end_in_one_line()
    main()
