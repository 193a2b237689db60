"""Folds of one kind, formulas that fit, and what scrolls shows that it scrolls."""


def setup(app):
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
