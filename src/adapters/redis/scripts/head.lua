-- Returns the head of an execution; without fields if the id is unknown.
return read_head(ARGV[4])
