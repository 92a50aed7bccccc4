"""The cluster that the tests of this folder share: started when the first of them asks for it."""

import warnings
from collections.abc import Iterator

import pytest

from tests.slurm.cluster import Cluster, missing


@pytest.fixture(scope="session")
def slurm() -> Iterator[Cluster]:
    reason = missing()
    if reason:
        warnings.warn(f"THE TESTS ON A REAL SLURM CLUSTER ARE SKIPPED: {reason}", stacklevel=1)
        pytest.skip(reason)
    with Cluster(max_array=4) as cluster:
        yield cluster
