"""What a command of the service is refused with."""


class CommandError(Exception):
    """A command cannot be carried out. The text says why and what to do."""
