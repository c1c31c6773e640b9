-- Returns an execution's head; its fields are none if there is no such execution.
return read_head(ARGV[4])
