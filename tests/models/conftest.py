import pytest


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory):
    """Graphs are built once a test session, from the installed package, without a network."""
    return tmp_path_factory.mktemp("cache")
