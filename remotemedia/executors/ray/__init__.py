"""The executor "ray": a pipeline over several machines.

A worker pool is the unit of one host. What lies between hosts is Ray's: which machine, moving what is sent there,
noticing that a machine is gone.

    islands     which nodes run together on one host. Pure.
    relay       what was sent from island to island, and is kept until it is through. Pure.
    parcels     values as what travels between hosts
    island_pool one island where it runs: a worker pool
    cluster     joining Ray, finding hosts, starting actors
    member      one island seen from the caller, across the generations of its actor
    execution   the executor
"""
