"""Live sources of statements: a database of Learning Locker, and an LRS (docs/spec/statement-sources.md)."""
