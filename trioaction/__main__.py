"""``python -m trioaction`` is ``trioaction``; and Ctrl-C while it is still being imported ends it quietly."""

import signal
import sys


def main() -> int:
    """Run the command line of this process and return its exit code."""
    try:
        from trioaction.cli.main import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return run()


if __name__ == "__main__":
    sys.exit(main())
