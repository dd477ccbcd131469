"""The errors a user can meet: each says in one sentence what is wrong, where, and the way out."""

from pathlib import Path


class Voco2dError(Exception):
    """Something a user can mend; the command line prints it on one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(Voco2dError):
    """The call itself is wrong: a missing folder, an unknown option or value."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value is unknown or of the wrong type."""


class ReadError(Voco2dError):
    """A file or series is not a CT volume that can be read.

    Args:
        path: What could not be read.
        reason: Why, without any patient identifier.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ReadError"], tuple[str, str]]:
        """Let the error cross process boundaries."""
        return type(self), (self.path, self.reason)


class StoreError(Voco2dError):
    """A store is missing, empty, damaged or can't be written."""


class WrongStoreError(StoreError, UsageError):
    """The call names a place without a store, or other settings than its store's."""


class LabelError(Voco2dError):
    """A label or prediction table lacks something or contradicts itself."""


class CheckpointError(Voco2dError):
    """Weights are missing, damaged or belong to another architecture."""


class MissingCheckpointError(CheckpointError, UsageError):
    """The call names weights that are not there."""


class NonFiniteLossError(Voco2dError):
    """A loss became NaN or infinite; the message says at which step and which term."""


class TrainingStoppedError(Voco2dError):
    """The alarm was asked to stop a run that shows a symptom; the message names it, its value, the limit and a cure."""


class OtherProcessError(Voco2dError):
    """Another process of the same training stopped.

    Args:
        message: What is known of it.
        exit_code: That of the other process.
        is_told: Whether the first process tells it, so that this one need not.
    """

    def __init__(self, message: str, exit_code: int = 1, is_told: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.is_told = is_told


class DeviceMemoryError(Voco2dError):
    """Memory has run out; the message says which setting lowers it, and to what."""
