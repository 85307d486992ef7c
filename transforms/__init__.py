"""The steps of the job: read, derive, match, deliver."""
