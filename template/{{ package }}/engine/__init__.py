"""The engine: everything around the loop. It imports nothing of the project's own code.

Kept by the template: an update merges what you change here. Rooms import from earlier ones only:
run_dir, compose, distributed, checkpoints, data, trackers and report, inference, train, sweeps.

What project files import, each name with its module:

    Project           project              what a project provides to the engine
    Mode              project              one value of `mode`
    Items             project              the interface of a dataset
    Batch             project              tensors by name
    Config            config               the whole config, to extend
    Training          config               conf/training, to extend
    Dataset           config               a kind of conf/data, to extend
    Split             config               train, valid or test
    Section           types                a mapping in the config
    Text              types                a non-empty string
    Range             types                [lowest, highest]
    ResumeSafe        types                marks a key that a resumed run may change
    FixedOrder        types                marks a list whose order is baked into the weights
    conflict          types                the error of two keys that disagree
    UserError         errors               problems that the user can fix
    for_each          parallel             a function of many paths, in threads
    start             train.start          training in one process or several
    Session           train.session        a run's checkpoints, metrics and progress
    Stop              signals              whether a signal asked the run to stop
    autocast          distributed.devices  the context of training.run.precision
    Row               inference.evaluate   the measurements of one item
    evaluate_split    inference.evaluate   mode=evaluate
    recognize_files   inference.recognize  mode=recognize
    load              load                 a trained model for a notebook or a server
    find_part         __init__             a part that an answer renders, such as report.sheet
"""

from importlib import import_module
from typing import Any


def find_part(name: str) -> Any:
    """An optional module, such as report.curves, or None if it was not rendered."""
    try:
        return import_module(f"{__package__}.{name}")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith(str(__package__)):
            raise  # the part needs a missing library
        return None
