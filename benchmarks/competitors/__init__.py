"""Other fillers beside torch's and fastinit's, each in its best mode: README.md says which that is.

Each module has a NAME for tables, a MODE in words, PACKAGE (what pip calls it), `offers(case)` and `filler(case)`: a
function without arguments that fills the whole of a memory of its own, and returns it. None imports its library
before `filler` is called.
"""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from types import ModuleType

from competitors import jax_random, mkl_vsl, numpy_generator, randompack_filler

LIBRARIES: dict[str, ModuleType] = {
    module.NAME: module for module in (numpy_generator, randompack_filler, mkl_vsl, jax_random)
}


def version(library: ModuleType) -> str | None:
    """Return the version of what is installed, None where nothing is."""
    try:
        return version_of(library.PACKAGE)
    except PackageNotFoundError:
        return None
