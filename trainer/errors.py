"""Everything this pack raises on purpose.

TrainerError
├── SettingError    a value that somebody set at a node or in an API call cannot work
├── DatasetError    the pictures or captions cannot be trained on
├── ModelError      the model is of a family, or in a form, that is not supported
├── LoraFileError   a LoRA file does not hold what it should
└── DivergedError   the numbers of a run are no longer finite

Each message says what was expected, what came, and what to do, in the words of the person at the graph.
"""


class TrainerError(Exception):
    """The base of all errors that this pack raises on purpose."""


class SettingError(TrainerError, ValueError):
    """A value that somebody set at a node or in an API call cannot work."""


class DatasetError(TrainerError):
    """The pictures or captions cannot be trained on."""


class ModelError(TrainerError):
    """The model is of a family, or in a form, that is not supported."""


class LoraFileError(TrainerError):
    """A LoRA file does not hold what it should."""


class DivergedError(TrainerError):
    """The numbers of a run are no longer finite."""
