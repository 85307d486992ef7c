#!/usr/bin/env python3
"""healthy [URL]: whether the registry of this machine answers that it is well. Exit status 0 if so, else 1.

Over TLS the certificate is not checked: it is for the name by which others reach the service.
"""

import json
import os
import ssl
import sys
import urllib.request

url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("REGISTRY_HEALTH_URL", "http://127.0.0.1:8380/health")
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
try:
    # The operator's own address, of this machine.
    with urllib.request.urlopen(url, timeout=4, context=context) as answer:  # noqa: S310
        status = json.load(answer)["status"]
except (OSError, ValueError, KeyError) as error:
    sys.exit(f"{url}: {error}")
sys.exit(None if status == "ok" else f"{url}: {status}")
