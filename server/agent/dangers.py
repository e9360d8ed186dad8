"""What is known to install, delete, write, start processes or reach the network, by the names it goes by."""

from __future__ import annotations

import re
from collections.abc import Iterator

INSTALLS = "installs packages"
DELETES = "deletes files"
DELETES_OUT = "deletes what is outside the workspace"
DELETES_ANY = "deletes files that cannot be told beforehand"
WRITES = "writes outside the workspace"
STARTS = "starts processes"
NETWORK = "reaches the network"
UNKNOWN = "runs code that cannot be judged beforehand"
UNREADABLE = "is not Python that can be read"

MODULES: dict[str, str] = {
    **dict.fromkeys(("subprocess", "pty", "multiprocessing", "pexpect", "sh", "plumbum", "invoke", "fabric"), STARTS),
    **dict.fromkeys(
        (
            *("requests", "httpx", "aiohttp", "urllib3", "socket", "socketserver", "ftplib", "smtplib", "imaplib"),
            *("poplib", "telnetlib", "xmlrpc", "paramiko", "boto3", "botocore", "websocket", "websockets", "ssl"),
            *("gspread", "tweepy", "yfinance", "pycurl", "asyncssh", "minio", "psycopg", "psycopg2", "pymongo"),
            *("asyncpg", "redis", "pymysql", "kaggle", "huggingface_hub", "openai", "litellm", "anthropic"),
            *("webbrowser", "nntplib", "wget", "s3fs", "gcsfs", "adlfs", "pandas_datareader", "selenium"),
            *("pyodbc", "mysql", "MySQLdb", "aiomysql", "oracledb", "cx_Oracle", "snowflake", "pymssql", "ibm_db"),
            *("cassandra", "neo4j", "elasticsearch", "opensearchpy", "influxdb", "influxdb_client", "trino", "impala"),
            *("clickhouse_driver", "clickhouse_connect", "databricks", "prestodb", "pyhive", "pandas_gbq", "motor"),
            *("aiopg", "psycopg_pool", "kafka", "confluent_kafka", "pika", "grpc", "ldap3", "playwright", "mlflow"),
            *("wandb", "comet_ml", "neptune", "slack_sdk", "stripe", "twilio", "github", "gitlab", "jira"),
        ),
        NETWORK,
    ),
    **dict.fromkeys(("pip", "ensurepip", "conda", "micropip", "piplite", "setuptools"), INSTALLS),
    **dict.fromkeys(("ctypes", "cffi", "importlib", "runpy", "code", "codeop", "marshal"), UNKNOWN),
}
PARTS: dict[str, str] = {
    "urllib.request": NETWORK,
    "google.cloud": NETWORK,
    "googleapiclient": NETWORK,
    "azure.storage": NETWORK,
    "http.client": NETWORK,
    "http.server": NETWORK,
    "concurrent.futures.ProcessPoolExecutor": STARTS,
    "asyncio.create_subprocess_exec": STARTS,
    "asyncio.create_subprocess_shell": STARTS,
    "asyncio.open_connection": NETWORK,
    "asyncio.start_server": NETWORK,
    "shutil.rmtree": DELETES,
    "shutil.move": DELETES,
    "send2trash": DELETES,
    "sys.modules": UNKNOWN,
    "builtins": UNKNOWN,
    "ray": STARTS,
    "sklearn.datasets.fetch_": NETWORK,
    "seaborn.load_dataset": NETWORK,
    "statsmodels.datasets.get_rdataset": NETWORK,
}
OF_OS = {
    **dict.fromkeys(("remove", "unlink", "rmdir", "removedirs", "truncate"), DELETES),
    **dict.fromkeys(("rename", "renames", "replace"), WRITES),
    **dict.fromkeys(("symlink", "link", "chmod", "chown", "mknod", "mkfifo", "chroot", "fchmod", "lchown"), WRITES),
    **dict.fromkeys(
        ("system", "popen", "fork", "forkpty", "startfile", "posix_spawn", "posix_spawnp", "kill", "killpg"), STARTS
    ),
}
REMOVING = {"os.remove", "os.unlink", "os.rmdir", "os.removedirs", "os.truncate", "shutil.rmtree"}
DELETING_METHODS = {"unlink", "rmdir", "rmtree"}
STARTING_METHODS = {"system", "popen", "check_output", "check_call", "Popen"}
"""Telling by themselves, whatever name their module goes by since an earlier cell."""

SAVING_METHODS = {
    *("to_csv", "to_excel", "to_parquet", "to_json", "to_pickle", "to_feather", "to_hdf", "to_html", "to_latex"),
    *("to_markdown", "to_stata", "to_xml", "to_file", "to_netcdf", "to_zarr", "to_sql", "to_image", "to_orc"),
    *("savefig", "save", "savetxt", "savez", "savez_compressed", "save_model", "save_pretrained", "dump", "imsave"),
    *("write_html", "write_image", "write_json", "write_csv", "write_parquet", "write_excel", "write_ipc"),
    *("write_ndjson", "imwrite", "export", "extractall", "extract", "tofile"),
}
WRITING_METHODS = {"write_text", "write_bytes", "mkdir", "touch", "symlink_to", "hardlink_to"}
RENAMING_METHODS = {"rename", "replace"}
DATABASES = {"sqlite3.connect", "duckdb.connect", "shelve.open", "dbm.open", "h5py.File"}
"""Opening one of these makes a file, or may change it."""

DECORATORS = {
    *("property", "staticmethod", "classmethod", "lru_cache", "cache", "cached_property", "wraps", "contextmanager"),
    *("asynccontextmanager", "dataclass", "njit", "jit", "vectorize", "guvectorize", "overload", "abstractmethod"),
    *("setter", "getter", "deleter", "total_ordering", "singledispatch", "override", "final", "fixture"),
}
"""Those that do not call what they are given."""

OPENING = {
    *("open", "io.open", "codecs.open", "gzip.open", "bz2.open", "lzma.open", "os.open", "zipfile.ZipFile"),
    "tarfile.open",
}
"""Calls with a file and a mode."""

LOGGING_FILES = {
    f"logging.{name}FileHandler" for name in ("", "handlers.Rotating", "handlers.TimedRotating", "handlers.Watched")
}
SEARCHED = ("sys.path.append", "sys.path.insert", "sys.path.extend", "os.chdir")
"""Calls after which modules are found elsewhere as well."""

HOLDING = {"connect", "client", "resource", "create_connection", "login", "session", "create_engine", "pipeline"}
"""Calls besides those of classes whose value is a way out by itself: a connection, a client."""

HOLDING_ON = {"cursor", "connect", "raw_connection", "begin", "session", "get_database", "get_collection", "bucket"}
"""Methods of such a value whose value is one as well; so are its attributes, its items, and what its classes make."""

MACHINES = ("os.environ", "os.getenv", "os.sep.join", "os.path.relpath", "os.path.expanduser", "os.path.expandvars")
"""Calls and values that make paths of what only the machine knows."""

SAME_PLACE = ("os.path.abspath", "os.path.realpath", "os.path.normpath", "os.fspath")
MOST_HELD = 50
"""A literal that holds more is data."""

COPYING = {"copy", "copy2", "copyfile", "copytree", "make_archive", "unpack_archive"}
JUDGED_NAMES = {"exec": UNKNOWN, "eval": UNKNOWN, "compile": UNKNOWN, "__import__": UNKNOWN, "breakpoint": UNKNOWN}
DANGEROUS_ATTRIBUTES = {
    "__subclasses__",
    "__globals__",
    "__builtins__",
    "__code__",
    "__loader__",
    "__import__",
    "__mro__",
    "__bases__",
    "__dict__",
}
PATH_ARGUMENTS = {"path", "fname", "file", "filename", "path_or_buf", "excel_writer", "buf", "name", "dst", "con"}
URL = re.compile(r"^[a-z][a-z0-9+.\-]*://", re.IGNORECASE)
LOCAL_URL = re.compile(r"^(file|memory|sqlite)://", re.IGNORECASE)
SHELL_MAGICS = {"system", "sx", "bash", "sh", "script", "cmd", "perl", "ruby", "svg_system", "!", "python2"}
MAGICS = {"pip": INSTALLS, "conda": INSTALLS, "mamba": INSTALLS, "uv": INSTALLS, "micromamba": INSTALLS}
HARMLESS_MAGICS = {
    *("matplotlib", "time", "timeit", "whos", "who", "who_ls", "pinfo", "pinfo2", "precision", "pwd", "lsmagic"),
    *(
        "config",
        "autoreload",
        "load_ext",
        "capture",
        "prun",
        "memit",
        "pdoc",
        "psource",
        "history",
        "psearch",
        "pprint",
    ),
    *("html", "latex", "markdown", "svg", "javascript", "js", "xmode", "colors", "page", "env"),
}
MAGIC_CALLS = {"run_line_magic", "run_cell_magic"}
IPYTHON_CALLS = {*MAGIC_CALLS, "system", "getoutput"}
OPTIONS = re.compile(r"^\s*(-\w+(\s*\d+)?\s+)+")
ALWAYS = ("os", "posix", "nt", "sys", "shutil", "pathlib", "builtins")
"""Modules that a name of theirs surely means; any other may be a variable where no cell has imported it."""


def of_module(name: str) -> Iterator[str]:
    """What is done with a library's module, or something in it, by its dotted name."""
    head = name.split(".")[0]
    if head in MODULES:
        yield MODULES[head]
    for part, reason in PARTS.items():
        if name == part or name.startswith((f"{part}.", part if part.endswith("_") else f"{part}.")):
            yield reason
