"""What a pipeline is made of: nodes, frames, state, the graph. Knows no process, socket or shared memory."""
