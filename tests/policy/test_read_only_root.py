from tests.policy import sweep


def test_every_root_file_system_is_read_only() -> None:
    sweep.obeyed("read-only-root")


def test_a_writable_root_file_system_is_refused() -> None:
    sweep.refused("read-only-root")
