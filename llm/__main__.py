"""`python -m llm`: send, chat, look at the keys, or watch the demo."""

from llm.cli import main

if __name__ == "__main__":
    main()
