"""The configuration service: forwarder documents over HTTP (forwarders.md section 5). `python -m registry`."""
