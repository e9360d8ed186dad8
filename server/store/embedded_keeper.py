"""A small process that keeps one PostgreSQL for as long as its own standard input is open.

Run by path, with nothing but the standard library:
    embedded_keeper.py BINARIES DATA SOCKETS PASSWORD_FILE ANSWER_FD
It writes `ready`, or what went wrong, to ANSWER_FD. The folder's lock is held until Postgres has gone, so the
next server's keeper waits for it instead of meeting a dying one. Postgres refuses to run as root: there it gets
a user namespace in which its files' owner has an ordinary user's number, or, where those are forbidden,
an unprivileged user.
"""

import ctypes
import fcntl
import os
import pwd
import select
import signal
import subprocess
import sys
import time

START_S = 60.0
STOP_S = 20.0
CLONE_NEWUSER = 0x10000000


def unprivileged():
    """An account that exists and is not root's, with a name for initdb to find."""
    for name in ("nobody", "postgres", "daemon"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)


def leave_root(folders):
    """Makes this process (and so its children) one that Postgres accepts."""
    account = unprivileged()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) == 0:
        with open("/proc/self/setgroups", "w") as file:
            file.write("deny")
        with open("/proc/self/uid_map", "w") as file:
            file.write(f"{account.pw_uid} 0 1")
        with open("/proc/self/gid_map", "w") as file:
            file.write(f"{account.pw_gid} 0 1")
    else:
        for folder in folders:
            give(folder, account)
        os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    for folder in folders:
        if not os.access(folder, os.W_OK):
            raise PermissionError(
                f"Postgres does not run as root, user namespaces are not allowed here, and {folder} is out of the "
                f"reach of user {account.pw_name}: set CELLWRIGHT_DATA_DIR to a folder that it can reach, run as "
                "an ordinary user, or set CELLWRIGHT_DATABASE_URL"
            )


def give(folder, account):
    os.chown(folder, account.pw_uid, account.pw_gid)
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            os.chown(os.path.join(root, name), account.pw_uid, account.pw_gid, follow_symlinks=False)


def make_cluster(binaries, data, password):
    subprocess.run(
        [
            os.path.join(binaries, "initdb"),
            *("-D", data, "-U", "cellwright", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"),
            *("--pwfile", "/dev/stdin", "--no-sync", "--no-instructions"),
        ],
        check=True,
        input=password,
    )


def answers(binaries, sockets):
    asked = subprocess.run(
        [os.path.join(binaries, "pg_isready"), "-q", "-h", sockets],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return asked.returncode == 0


def main():
    binaries, data, sockets, password_file, answer_fd = sys.argv[1:]
    answer_fd = int(answer_fd)
    os.set_inheritable(answer_fd, False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    lock = os.open(os.path.join(os.path.dirname(data), "postgres.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    server = None

    def say(word):
        os.write(answer_fd, word.encode())
        os.close(answer_fd)

    try:
        give_up = time.monotonic() + START_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise TimeoutError("the former Postgres of this folder does not end") from None
                time.sleep(0.02)
        with open(password_file, "rb") as file:
            password = file.read()
        if os.geteuid() == 0:
            leave_root([data, sockets])
        if not os.path.exists(os.path.join(data, "PG_VERSION")):
            make_cluster(binaries, data, password)
        server = subprocess.Popen(
            [
                os.path.join(binaries, "postgres"),
                *("-D", data, "-k", sockets, "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"),
                *("-c", "max_connections=50", "-c", "shared_buffers=64MB", "-c", "log_min_messages=warning"),
            ],
            stdin=subprocess.DEVNULL,
        )
        while not answers(binaries, sockets):
            if server.poll() is not None:
                raise RuntimeError(f"postgres ended with {server.returncode}")
            if time.monotonic() > give_up:
                raise TimeoutError("postgres does not answer")
            time.sleep(0.02)
    except BaseException as error:
        if server is not None:
            server.kill()
        say(f"{type(error).__name__}: {error}")
        os._exit(1)
    say("ready")
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    while server.poll() is None:
        if poll.poll(500) and not os.read(0, 1024):
            break
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait(STOP_S)


if __name__ == "__main__":
    main()
