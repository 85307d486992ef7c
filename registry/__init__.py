"""The service that holds forwarder documents (docs/spec/forwarders.md section 5): `python -m registry`."""
