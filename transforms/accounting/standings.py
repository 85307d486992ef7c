"""What an account says on the board."""

from bisect import bisect_left
from functools import cache

from transforms.accounting.accounts import Account, lower_end
from transforms.accounting.board import LATENCY_BOUNDS, LatencyHistogram, Standing


def standing_of(account: Account) -> Standing:
    """The counts of an account, as a standing that is to be added to others."""
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    for bin_number, count in list(account.latencies.counts.items()):
        counts[_bound(bin_number)] += count
    return Standing(
        due=account.matched,
        delivered=account.delivered,
        already_delivered=account.already_delivered,
        dead=dict(account.dead_lettered),
        bytes=account.bytes,
        latency=LatencyHistogram(counts, account.latencies.total),
    )


@cache
def _bound(bin_number: int) -> int:
    """The bin of the board that a bin of an account falls into. Those of an account are at most 1/16 wide."""
    return bisect_left(LATENCY_BOUNDS, lower_end(bin_number) / 1000)
