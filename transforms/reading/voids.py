"""Which activity is to count as never read, since an xAPI statement voids it."""

from collections.abc import Collection, Iterable

import msgspec

from schemas import Activity

Void = tuple[str | None, str | None, str]
"""The organisation, the store and the record_id of the activity."""

NOTHING: frozenset[Void] = frozenset()

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Void).decode


def void_key(activity: Activity) -> Void:
    """What a void of `activity` is."""
    return activity.organisation, activity.lrs_id, activity.record_id


def without_voided(activities: Iterable[Activity], voids: Collection[Void]) -> tuple[list[Activity], set[Void]]:
    """Those of `activities` that stay, and which of `voids` took the others."""
    kept: list[Activity] = []
    used: set[Void] = set()
    for activity in activities:
        key = void_key(activity)
        if key in voids:
            used.add(key)
        else:
            kept.append(activity)
    return kept, used


def encode_void(void: Void) -> bytes:
    """A line that travels with admitted lines, as activity arrives, and is none of them (`is_void`)."""
    return _encode(void)


def decode_void(line: bytes) -> Void:
    """What `encode_void` encoded."""
    void: Void = _decode(line)
    return void


def is_void(line: bytes) -> bool:
    """Whether a line is from `encode_void`, and not from a decoder's `admit`."""
    return line.startswith(b"[")
