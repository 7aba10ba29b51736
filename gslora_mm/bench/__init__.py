"""Lists of runs, with seeds and trials, and the table of their results."""
