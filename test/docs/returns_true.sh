# The statement of a block returns true.
psql -XAt -v ON_ERROR_STOP=1 -f "$BLOCK" | grep -qx t
