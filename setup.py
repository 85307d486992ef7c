from setuptools import find_packages, setup

REGISTRY = ["cryptography>=45", "fastapi>=0.115", "fastapi-offline>=1.7", "pymongo>=4.10", "uvicorn>=0.34"]
LOCAL = ["moto[server]>=5.1", "localstack-client>=2.10", "trustme>=1.2"]

setup(
    name="session-forwarder",
    version="0.1.0",
    description="Learning-session activity in; events, status and score messages out, in order, to everyone who asked",
    python_requires=">=3.11",
    packages=find_packages(include=["pipeline*", "transforms*", "schemas*", "registry*"]),
    package_data={"schemas": ["*.avsc"], "registry": ["page/*"]},
    install_requires=[
        "apache-beam>=2.77",
        "aiohttp>=3.11",
        "boto3>=1.40",
        "fastavro>=1.10",
        "msgspec>=0.19",
        "orjson>=3.10",
        "pcre2>=0.7,<0.8",
        "pyarrow>=18",
        "uvloop>=0.21",
        "zstandard>=0.23",
    ],
    extras_require={
        "aws": ["apache-beam[aws]>=2.77"],
        "gcp": ["apache-beam[gcp]>=2.77"],
        "local": LOCAL,
        "bench": ["matplotlib>=3.9", "requests>=2.32"],
        # In an environment of their own: they pin versions of what this project uses.
        "bench-peers": ["bytewax>=0.21", "quixstreams>=3.20"],
        "registry": REGISTRY,
        "test": [
            *LOCAL,
            *REGISTRY,
            "boto3-stubs[firehose,kinesis,s3]>=1.40",
            "httpx2>=2",
            "hypothesis>=6.100",
            "mypy>=1.15",
            # Drives the Chromium that is there; it need not download one.
            "playwright>=1.50",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.11",
            "schemathesis>=4",
            "standardwebhooks>=1.0",
        ],
    },
    entry_points={
        "console_scripts": ["session-forwarder=pipeline.__main__:console"],
        # What of forwarder documents the job lets others read for it, by scheme (`transforms.forwarders.service`).
        "session_forwarder.forwarder_readers": [
            f"{scheme} = registry.reader:read_store" for scheme in ("sqlite", "mongodb", "mongodb+srv")
        ],
    },
)
