# Nothing happens here, on purpose: boot.py also runs when a tool soft-resets the board into the
# raw REPL, and whatever stands here could lock that tool out. The work starts in main.py.
