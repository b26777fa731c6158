"""Questions about what is there: runs compared, examples explained, traffic watched."""
