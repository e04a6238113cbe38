"""Communication between GPUs is a cost: collectives belong to the operations that wait for them, sends have a latency.

``groups`` says which GPUs take part, ``links`` what they are connected by, ``tuning`` how long NCCL takes.
"""
