"""Pure decisions from measurements; times are passed in, nothing is read from a clock."""
