"""The embedded backend: the four storage ports on SQLite files in one data directory."""
