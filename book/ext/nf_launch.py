"""The buttons that open or download a chapter give its plain edition."""


def setup(app):
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
