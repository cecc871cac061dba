"""The errors a user may see: each message names the thing, its value, what was expected and the way out."""


class NanochatError(Exception):
    """Base of every error that is the user's to mend; scripts print it as one line and exit with 1."""


class ConfigError(NanochatError):
    """A configuration key is unknown, has a wrong type, or contradicts another one."""


class ArtifactError(NanochatError):
    """An artifact is missing, damaged, of another kind, or does not fit the others it is used with."""


class DataError(NanochatError):
    """Input data is missing, truncated or does not have the expected schema."""


class DeviceError(NanochatError):
    """The requested device or launch does not exist on this machine."""


class TrainingError(NanochatError):
    """Training cannot go on: a loss that is not finite, no memory even for one sequence, and the like."""
