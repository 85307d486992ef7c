"""Where the registry keeps its documents: SQLite or MongoDB."""
