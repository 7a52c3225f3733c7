"""The run folder: stages on disk and their keys, captures and arrays, finished runs opened again."""
