"""The configuration files of a Swift cluster of one proxy and one device."""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from .processes import LOOPBACK, free_port

ACCOUNT = "cell"
USER = "wright"
REGION = "us-east-1"
BACKENDS = ("account", "container", "object")
SERVERS = (*BACKENDS, "proxy")

_SHARED = """\
[swift-hash]
swift_hash_path_prefix = {prefix}
swift_hash_path_suffix = {suffix}

[storage-policy:0]
name = one-copy
default = yes

[swift-constraints]
max_meta_value_length = 2048
max_meta_overall_size = 8192
"""

_COMMON = """\
[DEFAULT]
bind_ip = {ip}
bind_port = {port}
workers = 0
swift_dir = {folder}
log_udp_host = {ip}
log_udp_port = {port}
"""

_BACKEND = """\
devices = {folder}/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
conn_timeout = 10
node_timeout = 30
container_update_timeout = 30

[pipeline:main]
pipeline = {name}-server

[app:{name}-server]
use = egg:swift#{name}
"""

_PROXY = """\

[pipeline:main]
pipeline = catch_errors proxy-logging cache bulk s3api tempauth slo dlo proxy-logging proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
conn_timeout = 10
node_timeout = 30
error_suppression_limit = 1000000

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:proxy-logging]
use = egg:swift#proxy_logging

[filter:cache]
use = egg:swift#memcache
memcache_servers = {ip}:{cache_port}

[filter:bulk]
use = egg:swift#bulk

[filter:s3api]
use = egg:swift#s3api
location = {region}
max_upload_part_num = 10000

[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {secret} .admin

[filter:slo]
use = egg:swift#slo
max_manifest_segments = 10000
max_manifest_size = 33554432
rate_limit_under_size = 0

[filter:dlo]
use = egg:swift#dlo
"""


@dataclass
class Settings:
    """The ports, the secret and the folder of one cluster."""

    folder: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in SERVERS})
    cache_port: int = field(default_factory=free_port)
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)

    def write(self) -> None:
        """Write the configuration files and make the device's folder."""
        disk = self.folder / "devices" / "disk"
        disk.mkdir(parents=True)
        os.setxattr(disk, "user.cellwright", b"Swift keeps metadata in extended attributes")
        self._write("swift.conf", _SHARED.format(prefix=secrets.token_hex(8), suffix=secrets.token_hex(8)))
        for name, port in self.ports.items():
            text = (_COMMON + (_PROXY if name == "proxy" else _BACKEND)).format(
                name=name, ip=LOOPBACK, port=port, folder=self.folder, cache_port=self.cache_port,
                region=REGION, account=ACCOUNT, user=USER, secret=self.secret_key,
            )  # fmt: skip
            self._write(f"{name}-server.conf", text)

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
