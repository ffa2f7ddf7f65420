"""What goes wrong by the user's hand: always one clear line that names the place and the mend."""


class HarnessError(Exception):
    """A bad command, spec or plugin. The command line prints its one line and exits with 2."""

    exit_code = 2

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


class DataMissing(HarnessError):
    """A data set's files are not where they should be; the message says what to put where."""


class DataDamaged(DataMissing):
    """A file of a data set is there, but can't be read. Fits that need it fail, with this as their reason."""


class Unwritable(HarnessError):
    """The results folder takes no more, as when its disk is full. What is there is whole. Exit code 1."""

    exit_code = 1


class Interrupted(HarnessError):
    """Ctrl-C. The exit code is that of shells: 128 + SIGINT."""

    exit_code = 130


class Diverged(Exception):
    """Training left the finite numbers. The fit is recorded as failed, with this as its reason."""
