"""The arguments that Elasticsearch's JVM reads from its standard input."""

from __future__ import annotations

from pathlib import Path

from cli.stack.servers.elasticsearch import server_arguments


def test_the_bytes_are_those_that_the_launcher_of_8_17_writes() -> None:
    """The frame was recorded from the launcher, which puts one seed in its keystore; ours is empty."""
    found = server_arguments({"http.port": "29200", "node.name": "vm"}, Path("/es/config"), Path("/es/logs"))
    assert found == (
        b"\0\0\0001org.elasticsearch.common.settings.KeyStoreWrapper\0\0\0\6\0\0\0\0"
        b"\2\thttp.port\0\00529200\tnode.name\0\2vm"
        b"\n/es/config\x08/es/logs"
    )


def test_long_texts_have_a_length_of_two_bytes() -> None:
    path = "/" + "x" * 299
    found = server_arguments({}, Path(path), Path("/l"))
    assert b"\xac\x02" + path.encode() in found  # 300 = 0b10_0101100, low seven bits first
