NotATask = 3
