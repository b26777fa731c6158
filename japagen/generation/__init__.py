"""What is asked of a generator, sent, paid for and written down."""
