"""Child processes that signals reach."""

import signal


def takes_ctrl_c() -> None:
    """A `preexec_fn`: SIGINT does what it does in a terminal. A shell starts what it puts into the background with it
    ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
