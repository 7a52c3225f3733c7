"""The stages of a run, one file each: what a stage reads, what makes its key, what it writes."""
