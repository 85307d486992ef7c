"""Aggregated records of a Kinesis data stream, as AWS' own library for Python writes them."""

from aws_kinesis_agg.aggregator import RecordAggregator


def aggregated(*payloads: bytes, keys: tuple[str, ...] = ("u",)) -> bytes:
    """One record of a stream, of the library."""
    aggregator = RecordAggregator()
    for number, payload in enumerate(payloads):
        assert aggregator.add_user_record(keys[number % len(keys)], payload) is None
    _, _, data = aggregator.clear_and_get().get_contents()
    return bytes(data)
