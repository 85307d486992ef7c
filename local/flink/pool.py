"""A pool in which one TaskManager's user code runs: Beam's, at an address of its own.

Beam's own command listens at every address of the machine. TaskManagers number their workers alike (1-1, 2-1, ...), and
a pool knows its workers by that alone: of two TaskManagers that share one, each ends the other's workers.
"""

import argparse
import logging
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

from transforms.durability import private_files

_THREADS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="HOST:PORT to listen at")
    address = parser.parse_args().address
    logging.basicConfig(level=logging.INFO)
    server = grpc.server(ThreadPoolExecutor(_THREADS))
    pool = BeamFnExternalWorkerPoolServicer(use_process=True, data_buffer_time_limit_ms=-1)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.add_insecure_port(address)
    server.start()
    with private_files():
        server.wait_for_termination()


if __name__ == "__main__":
    main()
