"""Counts in words."""


def counted(count: int, what: str, whats: str | None = None) -> str:
    """How many there are of a thing: `1 file`, `2 files`, `1,204 activities`.

    Args:
        count: of them.
        what: one of them.
        whats: several; None where an s does it.
    """
    return f"{count:,} {what if count == 1 else whats or what + 's'}"
