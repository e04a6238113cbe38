"""The command line: it parses options, prints results and draws progress."""
