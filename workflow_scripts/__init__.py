"""One thin command line per rule: parse, call one library function, exit code. Run them by hand or under torchrun."""
