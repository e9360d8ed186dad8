"""What Debian's own Python runs for Swift: build the rings of a folder, or serve one of its servers.

Usage: /usr/bin/python3 -I swift_runner.py FOLDER rings ACCOUNT_PORT CONTAINER_PORT OBJECT_PORT
       /usr/bin/python3 -I swift_runner.py FOLDER serve (proxy|account|container|object)
"""

import sys
from importlib import import_module
from pathlib import Path


def build_rings(folder: Path, ports: list[int]) -> None:
    """Write one ring of one device for each kind of backend server."""
    builder_class = import_module("swift.common.ring").RingBuilder
    for name, port in zip(("account", "container", "object"), ports, strict=True):
        builder = builder_class(part_power=4, replicas=1, min_part_hours=0)
        address = {"ip": "127.0.0.1", "port": port}
        builder.add_dev({"region": 1, "zone": 1, "weight": 1.0, "device": "disk", **address})
        builder.rebalance()
        builder.get_ring().save(str(folder / f"{name}.ring.gz"))


def serve(folder: Path, name: str) -> int:
    """Serve one server in the foreground, logging to standard error."""
    code: int = import_module("swift.common.wsgi").run_wsgi(
        str(folder / f"{name}-server.conf"), f"{name}-server", verbose=True
    )
    return code


def main(arguments: list[str]) -> int:
    """Do what the command line asks for, with the folder's own swift.conf instead of the machine's."""
    folder, action, *rest = arguments
    import_module("swift.common.utils").set_swift_dir(folder)
    if action == "serve":
        return serve(Path(folder), rest[0])
    build_rings(Path(folder), [int(port) for port in rest])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
