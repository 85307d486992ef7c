"""OpenTelemetry, where the standard `OTEL_*` variables ask for it. Nothing here imports Beam.

Without these variables nothing of it is imported. The packages are the extra `[otel]`.
"""
