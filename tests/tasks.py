"""What the tests that run for every task need to know of each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One of the choices of `task`."""

    name: str
    metric: str
    embedded: str  # the dataset that needs no file
    own: str  # the one of the user's files
    tested: int  # items of the embedded one's test split
    parameters: str  # of model=base, a pattern
    network: str  # its class
    dropout: str
    width: str  # the key that makes model=tiny wider than model=dryrun …
    widths: tuple[str, str]  # … from what to what
    count: str  # a key of every model that must be a whole number


TASKS = {
    task.name: task
    for task in (
        Task(
            name="speech",
            metric="cer",
            embedded="dialtones",
            own="manifest",
            tested=400,
            parameters=r"36,\d{3},\d{3}",
            network="Recognizer",
            dropout="model.encoder.dropout",
            width="model.encoder.dim",
            widths=("16", "64"),
            count="model.encoder.layers",
        ),
        Task(
            name="vision",
            metric="accuracy",
            embedded="digits",
            own="image_folder",
            tested=360,
            parameters=r"11,\d{3},\d{3}",
            network="Sequential",
            dropout="model.dropout",
            width="model.dims",
            widths=("[16]", "[64, 128]"),
            count="model.image.size",
        ),
    )
}
