"""Where the registry keeps documents and clients: SQLite or MongoDB."""
