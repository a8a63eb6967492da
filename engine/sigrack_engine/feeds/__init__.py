"""Where market-like data comes from: files, in order of time, and sockets."""

from sigrack_engine.feeds.csv_file import CsvFile
from sigrack_engine.feeds.errors import EndpointInUseError, FeedError
from sigrack_engine.feeds.merge import Merge, Track
from sigrack_engine.feeds.npz_file import NpzFile
from sigrack_engine.feeds.queue import DataCounts, DataQueue
from sigrack_engine.feeds.zmq_socket import Decoder, ZmqSocket

__all__ = [
    "CsvFile",
    "DataCounts",
    "DataQueue",
    "Decoder",
    "EndpointInUseError",
    "FeedError",
    "Merge",
    "NpzFile",
    "Track",
    "ZmqSocket",
]
