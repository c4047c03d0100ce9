"""The other side of the process border: what runs in a worker. Imports no more than it must, every worker pays for it.
"""
