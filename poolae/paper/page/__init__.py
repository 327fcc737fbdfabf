"""The published page: notebooks executed, merged, numbered and given tools."""
