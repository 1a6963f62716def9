"""A cluster that is not there is told at once."""

import socket

import pytest

from analyzer.errors import UsageError
from analyzer.executor.ray_cluster import Cluster

pytest.importorskip("ray")


def test_an_address_where_nothing_listens_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"no Ray cluster answers at 127.0.0.1:{port} .*ray start --head"):
            Cluster(f"127.0.0.1:{port}")
