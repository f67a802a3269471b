"""Where the secrets of keys come from: five stores behind one method, and the cache over them.

No message, repr or log line of this package holds a secret. Errors are raised outside the handlers
of foreign exceptions, so that none of these hangs on to an error as its context.
"""
