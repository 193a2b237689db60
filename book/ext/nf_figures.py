"""Players and figures to drag are numbered and captioned like every other figure."""


def setup(app):
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
