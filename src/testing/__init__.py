"""For those who write an adapter or test a program: contract suites, stand-ins, a virtual clock.

Each contract is a pytest class that is fed with the thing under test; the classes in the modules `broken_...`
show that it bites. All of it needs the extra `testing`.
"""

from importlib.util import find_spec

from outlast.core.errors import MissingExtra

if any(find_spec(package) is None for package in ("hypothesis", "jsonschema", "pytest")):
    raise MissingExtra("testing")
