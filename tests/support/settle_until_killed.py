"""Settles one item after the other and says so on its standard output, until it is killed.

python -m tests.support.settle_until_killed OUTPUT WORKER
"""

import os
import sys

from tests.support.settlements import delivered, given_up
from transforms.receipts.journal import Journal


def main(output: str, worker: str) -> None:
    journal = Journal(output, "run", worker, part_bytes=20_000)
    number = 0
    while True:
        name = f"{worker}-{number}"
        batch = [delivered(f"{name}-{k}") for k in range(number % 7)]
        journal.settle([*batch, given_up(name) if number % 3 == 0 else delivered(name)])
        os.write(1, f"{name}\n".encode())  # the acknowledgement: what it names may never be lost
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
