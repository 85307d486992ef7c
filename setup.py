from pathlib import Path

from setuptools import find_packages, setup

MONGODB = ["pymongo>=4.10"]
REGISTRY = ["cryptography>=45", "fastapi>=0.115", "fastapi-offline>=1.7", *MONGODB, "uvicorn>=0.34"]
OTEL = [
    "opentelemetry-exporter-otlp-proto-grpc>=1.41",
    "opentelemetry-exporter-otlp-proto-http>=1.41",
    "opentelemetry-sdk>=1.41",
]
# What of `apache-beam[gcp]` gs:// and Dataflow need, in Beam's own bounds. The rest of it is for BigQuery, Spanner and
# Vertex AI: with that pip takes over 13 minutes to find versions that fit.
GCP = [
    "google-auth-httplib2>=0.2,<0.3",
    "google-cloud-dataflow-client>=0.13,<0.14",
    "google-cloud-resource-manager>=1.14,<2",
    "google-cloud-storage>=3.4,<4",
]
LOCAL = ["aiohttp>=3.11", "moto[server]>=5.1", "localstack-client>=2.10", "trustme>=1.2"]

setup(
    name="session-forwarder",
    # The one place where the version stands: the user agent reads it from the installed metadata. See CONTRIBUTING.md.
    version="0.2.0.dev0",
    description="Learning-session activity in; events, status and score messages out, in order, to everyone who asked",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The session-forwarder authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["apache-beam", "kinesis", "firehose", "learning-locker", "learnosity", "webhooks", "xapi"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Education",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Education",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["commands*", "pipeline*", "transforms*", "schemas*", "registry*"]),
    # setuptools takes py.typed by itself.
    package_data={
        "commands": ["starter/*", "starter/in/*"],
        "pipeline": ["page/*.css"],
        "schemas": ["*.avsc"],
        "registry": ["page/*", "page/views/*"],
    },
    install_requires=[
        "apache-beam>=2.77",
        "aiohappyeyeballs>=2.5",  # the first whose sockets are the caller's
        "boto3>=1.40",
        "fastavro>=1.10",
        "httptools>=0.7",
        "msgspec>=0.19",
        "orjson>=3.10",
        "pcre2>=0.7,<0.8",
        "prometheus_client>=0.21",
        "pyarrow>=22",  # the first that reads files with a VARIANT in a column
        "shtab>=1.7",
        "urllib3>=2.3",
        "uvloop>=0.21",
        "yarl>=1.17",
        "zstandard>=0.23",
    ],
    # The files of requirements/ pin these (`make pins`), all but bench-peers.
    extras_require={
        "aws": ["apache-beam[aws]>=2.77"],
        "gcp": GCP,
        "local": LOCAL,
        "bench": ["aiohttp>=3.11", "matplotlib>=3.9", "requests>=2.32"],
        # In an environment of their own: they pin versions of what this project uses.
        "bench-peers": ["bytewax>=0.21", "quixstreams>=3.20"],
        # Statements of a Learning Locker's database (`--input mongodb://`). registry.txt has it among its pins.
        "mongodb": MONGODB,
        "registry": REGISTRY,
        # Metrics and traces, where the `OTEL_*` variables ask for them.
        "otel": OTEL,
        "test": [
            *GCP,
            *LOCAL,
            *REGISTRY,
            *OTEL,
            "authlib>=1.6",
            "aws-kinesis-agg>=1.2",
            # Holds axe-core; what it drives is not used.
            "axe-playwright-python>=0.1.8",
            "boto3-stubs[firehose,kinesis,s3]>=1.40",
            "flask>=3",
            "httpx2>=2",
            "hypothesis>=6.100",
            "import-linter>=2.17",
            "mypy>=1.15",
            "openapi-python-client>=0.29",
            # Drives the Chromium that is there; it need not download one.
            "playwright>=1.50",
            "pyte>=0.8.2",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "pyyaml>=6",
            "ruff>=0.11",
            "schemathesis>=4",
            "standardwebhooks>=1.0",
            "types-PyYAML>=6",
        ],
    },
    entry_points={
        "console_scripts": ["session-forwarder=commands.__main__:console"],
        # What of forwarder documents the job lets others read for it, by scheme (`transforms.forwarders.service`).
        "session_forwarder.forwarder_readers": [
            f"{scheme} = registry.reader:read_store" for scheme in ("sqlite", "mongodb", "mongodb+srv")
        ],
    },
)
