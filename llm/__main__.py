"""`python -m llm`: send, chat, look at the keys, or watch the demo."""

import sys

if __name__ == "__main__":
    try:
        from llm.cli import main

        main()
    except KeyboardInterrupt:  # also while the imports are still under way
        sys.exit(130)
