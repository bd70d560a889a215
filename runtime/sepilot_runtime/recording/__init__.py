"""Recordings in one normal form, whatever wrote them. Nothing is ever written into one."""
