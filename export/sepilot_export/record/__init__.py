"""The documents that exports leave behind."""
