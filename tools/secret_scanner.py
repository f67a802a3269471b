#!/usr/bin/env python3
"""Finds leaked credentials in files, archives and Git history.

    python tools/secret_scanner.py artifacts/ --fail-on-found
    python tools/secret_scanner.py test.log --output report.json

It needs Python 3.11 and nothing else: this file and the folder `scanner` beside it can be copied
anywhere. docs/scanner.md tells the rest.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

if __package__:
    from tools.scanner.cli import main
else:
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main = import_module("scanner.cli").main

if __name__ == "__main__":
    sys.exit(main())
