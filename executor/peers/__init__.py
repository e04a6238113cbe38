"""Registers the peers by name: other ways to train the same model on the same data.

To add one: write its file, and add its line.
"""

from __future__ import annotations

from loadahead.executor.peers.base import Peer
from loadahead.executor.peers.deepspeed import DEEPSPEED
from loadahead.executor.peers.none import NONE
from loadahead.executor.peers.save_on_cpu import SAVE_ON_CPU
from loadahead.executor.peers.trl import TRL

PEERS: dict[str, Peer] = {peer.name: peer for peer in (NONE, SAVE_ON_CPU, TRL, DEEPSPEED)}

__all__ = ["PEERS"]
