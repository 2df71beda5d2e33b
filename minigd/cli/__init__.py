"""What the commands of the shell do, one a file. Each is a function that Python can call too."""
