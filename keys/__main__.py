"""`python -m keys`: check, start and describe `keys.json`."""

from keys.cli import app

if __name__ == "__main__":
    app(prog_name="python -m keys")
