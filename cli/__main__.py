"""``python -m cli``: the ``nexafi`` command."""

from cli.main import app

if __name__ == "__main__":
    app(prog_name="nexafi")
