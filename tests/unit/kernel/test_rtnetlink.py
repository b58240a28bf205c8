"""Of pyroute2 its parts, in interpreters of their own: what is imported cannot be taken back."""

import subprocess
import sys

import pytest

WHOLE = "pyroute2.ndb.main"  # what nobody here uses, and the package's own code imports


def tell(program: str) -> str:
    """What a program prints."""
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_parts_alone() -> None:
    """What the kernel room imports of pyroute2 is what it uses, and it works."""
    program = (
        "import sys; from egress_router.kernel.rtnetlink import IPRoute, NetlinkError, setns\n"
        "with IPRoute() as route: print(route.link_lookup(ifname='lo'))\n"
        "assert issubclass(NetlinkError, Exception) and callable(setns)\n"
        f"assert {WHOLE!r} not in sys.modules"
    )
    assert tell(program) == "[1]"


def test_everything_for_whoever_asks() -> None:
    """Somebody else who imports pyroute2 finds all of it there, and the same classes as before."""
    program = (
        "import sys; from egress_router.kernel.rtnetlink import IPRoute as ours\n"
        "import pyroute2; from pyroute2 import NDB, IPRoute; from pyroute2.nslink import nspopen\n"
        f"assert IPRoute is ours and {WHOLE!r} in sys.modules\n"
        "print(NDB.__name__, pyroute2.__version__[:2], hasattr(pyroute2, 'no_such_thing'))"
    )
    assert tell(program) == "NDB 0. False"


def test_package_that_is_there_already() -> None:
    """Where pyroute2 was imported before, it is left as it is."""
    program = (
        "import pyroute2; from egress_router.kernel.rtnetlink import IPRoute\n"
        "print(IPRoute is pyroute2.IPRoute)"
    )
    assert tell(program) == "True"


@pytest.mark.parametrize("trouble", ["ImportError('moved')", "AttributeError('gone')"])
def test_version_whose_parts_cannot_be_imported_alone(trouble: str) -> None:
    """One that needs its own code to have run is imported whole."""
    program = (
        "import sys\n"
        "class Needy:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'pyroute2.iproute.linux':\n"
        "            if '__version__' not in vars(sys.modules['pyroute2']):\n"
        f"                raise {trouble}\n"
        "sys.meta_path.insert(0, Needy())\n"
        "import egress_router.kernel.rtnetlink as parts\n"
        f"print({WHOLE!r} in sys.modules, parts.IPRoute.__name__)"
    )
    assert tell(program) == "True IPRoute"
