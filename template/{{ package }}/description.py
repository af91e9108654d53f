"""mode=describe: write what the data say, such as their classes, to conf/data."""

import logging
import os
import re
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from .engine.config import Dataset
from .engine.errors import UserError

log = logging.getLogger(__name__)
FOLDER = Path(__file__).parents[1] / "conf" / "data"
HEADER = "# Written by mode=describe; yours to edit.\n"


def write_option(data: Dataset, key: str, found: list[str] | str) -> None:
    """Set a key in the file of conf/data that `data` comes from.

    The template's own file is extended by a new one, which is named after the path of `train`.
    Raises UserError if there is a file of that name.
    """
    name = str(HydraConfig.get().runtime.choices["data"])
    lines = OmegaConf.to_yaml({key: found})
    if name == data.kind:
        shipped = dict(OmegaConf.load(FOLDER / f"{name}.yaml"))
        values = data.model_dump()
        changed = {k: v for k, v in values.items() if v != shipped.get(k)}
        new = re.sub(r"\W+", "_", Path(values["train"]).resolve().stem)
        file = FOLDER / f"{new}.yaml"
        if file.exists():
            raise UserError(
                f"{os.path.relpath(file)} exists; to renew its {key}:\n"
                f"python train.py mode=describe data={new}"
            )
        text = HEADER + OmegaConf.to_yaml({"defaults": [name], **changed, key: found})
    else:
        file = FOLDER / f"{name}.yaml"
        # the lines of this key, or else the end; the rest of the file stays as it is
        place = re.compile(rf"^{key}:.*?(?=^[^\s-]|\Z)|\Z", re.MULTILINE | re.DOTALL)
        text = place.sub(lambda _: lines, file.read_text("utf-8").rstrip() + "\n", count=1)
    file.write_text(text, "utf-8")
    written = f"{os.path.relpath(file)}: {len(found)} {key}"
    log.info("%s\npython train.py data=%s", written, file.stem)
