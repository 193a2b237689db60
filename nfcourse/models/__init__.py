"""Models that are more than one flow, and flows put together for a purpose."""
