import pytest
from conversions import convert


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """The bundled chains converted; not to be changed."""
    return convert(tmp_path_factory.mktemp("converted") / "out")
