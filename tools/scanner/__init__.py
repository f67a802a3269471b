"""Finds leaked credentials. It needs nothing but the standard library; see docs/scanner.md."""
