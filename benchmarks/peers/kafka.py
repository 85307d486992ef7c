"""A Kafka broker on 127.0.0.1 for Quix Streams, from jars that Maven copied (see kafka.pom.xml)."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"  # any UUID in base64 that does not look like a flag
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
offsets.topic.num.partitions=1
log.dirs={directory}/logs
"""


@contextmanager
def kafka_broker(libraries: Path) -> Iterator[str]:
    """A broker for as long as the block lasts: its address."""
    with tempfile.TemporaryDirectory(prefix="kafka-") as directory:
        port, controller = _free_port(), _free_port()
        properties = Path(directory) / "server.properties"
        properties.write_text(_PROPERTIES.format(port=port, controller=controller, directory=directory))
        java = ["java", "-Xmx512m", "-cp", f"{libraries}/*"]
        subprocess.run(  # noqa: S603
            [*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(properties)],
            check=True, capture_output=True,
        )  # fmt: skip
        with subprocess.Popen(  # noqa: S603
            [*java, "kafka.Kafka", str(properties)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                _await_port(port)
                yield f"127.0.0.1:{port}"
            finally:
                process.terminate()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _await_port(port: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
