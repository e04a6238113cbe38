"""Trains without checkpointing and without offload: every activation stays until its backward pass."""

from __future__ import annotations

from loadahead.executor.peers.base import Peer
from loadahead.executor.peers.none import NONE

PLAIN = Peer(name="plain", make=NONE.make, offloads=False, checkpoints=False)
