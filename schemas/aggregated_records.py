"""How an aggregated record of the Kinesis Producer Library is framed: MAGIC, a protobuf message, the message's MD5.

https://github.com/awslabs/amazon-kinesis-producer/blob/master/aggregation-format.md
"""

MAGIC = bytes.fromhex("F3899AC2")
"""How it begins. Neither JSON nor a row of Avro begins so: for Avro it is a negative length."""

DIGEST_BYTES = 16
"""Bytes of the MD5 at its end."""
