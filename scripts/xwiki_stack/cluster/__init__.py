"""The local clusters: a real kind cluster, with a container registry or without one.

`prepare` gives the steps from a bare machine to a healthy cluster; everything is made once and
kept in the cache. ci/bed/README.md tells how the offline bed is made.
"""

from xwiki_stack.cluster.bed import (
    TEST_PREFIX,
    Config,
    abandoned,
    delete,
    describe,
    describe_bed,
    describe_image,
    environment,
    image_values,
    install_packages,
    kubeconfig,
    on_node,
    platform_memory,
    prepare,
    restart_nodes,
    stop,
    stop_engine_if_idle,
    system_packages,
    tool_steps,
    toolbox_image,
)
from xwiki_stack.cluster.npm import command as npm_command
from xwiki_stack.cluster.npm import package as npm_package
from xwiki_stack.cluster.programs import Tools, tools

__all__ = [
    "TEST_PREFIX",
    "Config",
    "Tools",
    "abandoned",
    "delete",
    "describe",
    "describe_bed",
    "describe_image",
    "environment",
    "image_values",
    "install_packages",
    "kubeconfig",
    "npm_command",
    "npm_package",
    "on_node",
    "platform_memory",
    "prepare",
    "restart_nodes",
    "stop",
    "stop_engine_if_idle",
    "system_packages",
    "tool_steps",
    "toolbox_image",
    "tools",
]
