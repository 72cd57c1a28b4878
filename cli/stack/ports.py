"""TCP ports of a stack: which it needs, who has them, and where free ones are."""

from __future__ import annotations

import errno
import random
import socket

import psutil

from cli import roles
from cli.stack import servers
from nexafi.settings import PORT_OFFSETS, Settings

#: Below the range that Linux gives to outgoing connections (32768 and up), above what services are known by.
_FREE_BASES = range(12000, 28000, 50)


def needed(settings: Settings, server_names: list[str], group_names: list[str]) -> dict[int, str]:
    """Port -> what listens there."""
    wanted = {settings.port(port): port for name in server_names for port in servers.SERVERS[name].ports}
    for group in group_names:
        wanted[settings.port("health") + roles.health_port_offset(group)] = f"{group} (health)"
        for role in roles.GROUPS[group].roles:
            listener = role.removesuffix("-api")
            if (role == "gateway" or role.endswith("-api")) and listener in PORT_OFFSETS:
                wanted[settings.port(listener)] = role
    return wanted


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True


def taken(settings: Settings, server_names: list[str], group_names: list[str]) -> dict[int, str]:
    """Port -> what wanted it, for each that is taken."""
    wanted = needed(settings, server_names, group_names)
    return {port: name for port, name in wanted.items() if not is_free(port, settings.host)}


def owner(port: int) -> str | None:
    """Who listens on ``port``, when this user may know."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        here = getattr(connection.laddr, "port", None)
        if connection.status == psutil.CONN_LISTEN and here == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.NoSuchProcess:
                return None
    return None


def explain(problems: dict[int, str]) -> str:
    """A sentence a port, and the way out."""
    lines = [
        f"Port {port}, wanted by {name}, is taken by {owner(port) or 'another process'}."
        for port, name in problems.items()
    ]
    lines.append(f"End it, or choose another range: NEXAFI_PORT_BASE={free_port_base()} ./dev up")
    return "\n".join(lines)


def free_port_base() -> int:
    """A port base with all its ports free now (another process may still be faster: the start then says so)."""
    bases = list(_FREE_BASES)
    random.shuffle(bases)
    for base in bases:
        settings = Settings(port_base=base)
        wanted = needed(settings, list(servers.SERVERS), list(roles.GROUPS))
        if all(is_free(port) for port in wanted):
            return base
    raise RuntimeError(f"no free range of ports between {_FREE_BASES.start} and {_FREE_BASES.stop}")
