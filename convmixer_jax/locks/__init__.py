"""Locks of directories, local or in a bucket, against other processes."""
