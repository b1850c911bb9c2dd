message = "two\nlines"
raise ValueError(message)
