"""Other people's engines at the same work. Each imports its own package only when it is run."""
