"""Jupyter's configuration for a Cellwright server, as docker-compose.yml uses it. Copy it and change what you need.

Every setting can also be a CELLWRIGHT_* environment variable; `cellwright doctor` prints all of them with their
sources. Keep secrets in the environment: a configuration file is read by more people than one thinks.
"""

c = get_config()  # noqa: F821 (Jupyter gives it)

# -- Jupyter itself ---------------------------------------------------------------------------------------------
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8888
c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/home/jovyan/work"
# JUPYTER_TOKEN holds the token; without one Jupyter makes its own and prints it.

# -- Cellwright -------------------------------------------------------------------------------------------------
c.CellwrightApp.options = {
    # A turn ends at the first of these limits that it meets.
    "max_iterations": 25,
    # "max_turn_tokens": 400_000,
    # "max_turn_cost": 2.0,
    # "max_turn_s": 1_800,
    # A cell that runs longer is interrupted, then killed. None: as long as it takes.
    # "cell_timeout_s": 600,
    # Kernels outlive a crash of the server for so long, and are taken back with all their variables.
    "kernel_grace_s": 900,
    # Text of one cell: in the notebook (head and tail), and in its text artifact (all of it).
    "output_inline_bytes": 1 << 20,
    "output_limit_bytes": 1 << 30,
    "upload_limit_bytes": 1 << 30,
}

# Stores: unset, they are embedded in the data folder (CELLWRIGHT_DATA_DIR). The compose file sets, by environment,
# CELLWRIGHT_DATABASE_URL, CELLWRIGHT_REDIS_URL, and CELLWRIGHT_S3_ENDPOINT with its keys.

# The model: CELLWRIGHT_MODEL (any LiteLLM name), CELLWRIGHT_API_KEY, and CELLWRIGHT_API_BASE for an
# OpenAI-compatible server of your own.
