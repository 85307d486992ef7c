"""The job on a real Flink cluster of this machine: what `run_flink.sh` starts."""
