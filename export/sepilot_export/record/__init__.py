"""The documents that exports and compressions leave behind, one frozen dataclass each."""
