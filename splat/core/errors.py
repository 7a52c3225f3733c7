"""The one exception that a user is meant to read."""


class SplatError(Exception):
    """One sentence that names the file or value and the fix. The command line prints it and exits with code 2."""


class Interrupted(Exception):
    """Work was stopped on request and what was done is saved: running the same command again goes on from there."""
