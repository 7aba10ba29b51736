"""What of a log reaches the console."""

import io
import logging

from gslora_mm.training.console import show_only


def record(level, text, module):
    path = f'/somewhere/{module}.py'
    return logging.LogRecord('name', level, path, 1, text, None, None)


def test_console_shows_what_matters_and_the_file_gets_all(tmp_path):
    logger = logging.Logger('a logger of its own')
    console = io.StringIO()
    logger.addHandler(logging.StreamHandler(console))
    file = logging.FileHandler(tmp_path / 'run.log')
    logger.addHandler(file)
    show_only(logger, ('logger_hook',))
    for level, text, module in [
        (logging.INFO, 'loss 0.1', 'logger_hook'),
        (logging.INFO, 'environment', 'runner'),
        (logging.WARNING, 'beware', 'runner'),
        (logging.WARNING, 'faster_coco_eval is not installed', 'runner'),
    ]:
        logger.handle(record(level, text, module))
    file.close()
    assert console.getvalue().splitlines() == ['loss 0.1', 'beware']
    assert len((tmp_path / 'run.log').read_text().splitlines()) == 4
