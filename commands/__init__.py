"""`session-forwarder VERB`: a file for each verb, above the job and the registry, which do not know each other."""
