"""How the chart starts MySQL: its own script in the image under test, as its pod runs it."""

import time
from pathlib import Path

import pytest

from tests.contract.conftest import open_folder
from tests.contract.containers import Container, Host
from xwiki_stack import proc, render, repo

pytestmark = pytest.mark.contract

ODD = 'it\'s \\ "odd" `$(x)` %s'
"""A password with everything that breaks quoting in SQL, shell and option files."""

PASSWORDS = {"root": "rootpass", "xwiki": ODD, "backup": "backuppass", "monitor": 'mon"i\\tor'}
ENVIRONMENT = {
    "SCHEMAS": "xwiki sub_wiki",
    "APPLICATION_USER": "xwiki",
    "BACKUP_USER": "backup",
    "MONITOR_USER": "monitor",
    "PORT": "3306",
}


class Pod:
    """The chart's pod without Kubernetes: same script, user, mounts and rights."""

    def __init__(self, host: Host, image: str, folder: Path) -> None:
        self.host, self.image = host, image
        self.config, self.secret, self.data = (folder / n for n in ("config", "secret", "data"))
        for path in (self.config, self.secret, self.data):
            path.mkdir()
            path.chmod(0o777)
        (chart,) = render.helm_template(
            repo.ROOT / "charts" / "mysql",
            [{"config": {"innodbBufferPoolSize": "128M"}}],
            show_only=["templates/configmap.yaml"],
        )
        for name, text in chart["data"].items():
            (self.config / name).write_text(text)
        self.set_passwords(PASSWORDS)

    def set_passwords(self, passwords: dict[str, str]) -> None:
        """The mounted Secret."""
        for name, value in passwords.items():
            (self.secret / f"{name}-password").write_text(value)

    @property
    def options(self) -> list[str]:
        places = ["/run/xwiki-stack", "/var/run/mysqld", "/tmp"]  # noqa: S108
        mounts = [word for place in places for word in ("--tmpfs", f"{place}:mode=1777")]
        for path, target in (
            (self.config, "/etc/xwiki-stack/config:ro"),
            (self.secret, "/etc/xwiki-stack/secret:ro"),
            (self.data, "/var/lib/mysql"),
        ):
            mounts += ["-v", f"{path}:{target}"]
        rights = ["--user", "999:999", "--read-only", "--cap-drop", "ALL", "--entrypoint", "bash"]
        return [*mounts, *rights]

    def start(self, name: str) -> Container:
        """Start it; it stays."""
        script = "/etc/xwiki-stack/config/start.sh"
        return self.host.start(name, self.image, script, env=ENVIRONMENT, options=self.options)

    def fails(self) -> str:
        """Start it where it must end with an error at once; what it says."""
        script = "/etc/xwiki-stack/config/start.sh"
        ended = self.host.once(self.image, script, env=ENVIRONMENT, options=self.options)
        assert ended.code == 1
        return ended.out + ended.err


@pytest.fixture
def pod(host: Host, mysql_image: str, tmp_path_factory: pytest.TempPathFactory) -> Pod:
    """A pod on an empty volume."""
    return Pod(host, mysql_image, open_folder(tmp_path_factory, "mysql"))


@pytest.fixture(scope="module")
def booted(
    host: Host, mysql_image: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pod, Container]:
    """A pod after its first boot, for tests that only look."""
    pod = Pod(host, mysql_image, open_folder(tmp_path_factory, "mysql"))
    container = pod.start("mysql-first")
    ready(container)
    return pod, container


def ready(container: Container) -> None:
    """Wait for what the chart's readiness probe asks."""
    words = ["mysql", "--defaults-extra-file=/run/xwiki-stack/monitor.cnf", "--execute=SELECT 1"]
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            container.execute(*words)
        except proc.CommandFailed:
            assert container.state()["Running"], container.logs()[-2000:]
            time.sleep(0.3)
        else:
            return
    raise AssertionError(container.logs()[-2000:])


def sql(container: Container, user: str, password: str, statement: str) -> str:
    """Ask over TCP; the password by environment."""
    words = ["mysql", "--host=127.0.0.1", f"--user={user}", "--batch", "--skip-column-names"]
    return container.execute(*words, stdin=statement, env={"MYSQL_PWD": password})


def test_the_application_gets_process_and_its_schemas_and_no_more(
    booted: tuple[Pod, Container],
) -> None:
    _pod, container = booted
    grants = set(sql(container, "xwiki", ODD, "SHOW GRANTS").splitlines())
    assert grants == {
        "GRANT PROCESS ON *.* TO `xwiki`@`%`",
        "GRANT ALL PRIVILEGES ON `xwiki`.* TO `xwiki`@`%`",
        "GRANT ALL PRIVILEGES ON `sub\\\\_wiki`.* TO `xwiki`@`%`",
    }
    assert int(
        sql(container, "xwiki", ODD, "SELECT COUNT(*) FROM information_schema.INNODB_TABLES")
    )
    with pytest.raises(proc.CommandFailed, match="denied"):
        sql(container, "xwiki", ODD, "SELECT * FROM mysql.user")


def test_root_is_let_in_by_the_socket_only(booted: tuple[Pod, Container]) -> None:
    _pod, container = booted
    words = ["mysql", "--user=root", "--socket=/var/run/mysqld/mysqld.sock", "--execute=SELECT 1"]
    container.execute(*words, env={"MYSQL_PWD": PASSWORDS["root"]})
    with pytest.raises(proc.CommandFailed, match="denied"):
        container.execute(*words)
    with pytest.raises(proc.CommandFailed):
        sql(container, "root", PASSWORDS["root"], "SELECT 1")


def test_the_backup_user_can_dump_and_change_nothing(booted: tuple[Pod, Container]) -> None:
    _pod, container = booted
    table = "CREATE TABLE IF NOT EXISTS xwiki.t (a INT); INSERT INTO xwiki.t VALUES (7)"
    sql(container, "xwiki", ODD, table)
    dumped = container.execute(
        "mysqldump",
        "--host=127.0.0.1",
        "--user=backup",
        "--single-transaction",
        "--source-data=2",
        "--set-gtid-purged=COMMENTED",
        "--routines",
        "--triggers",
        "--events",
        "--hex-blob",
        "--databases",
        "xwiki",
        "sub_wiki",
        env={"MYSQL_PWD": PASSWORDS["backup"]},
    )
    assert "INSERT INTO `t` VALUES (7)" in dumped
    assert "CHANGE REPLICATION SOURCE TO" in dumped
    assert "Dump completed" in dumped
    for forbidden in ("DROP TABLE xwiki.t", "SELECT * FROM mysql.user"):
        with pytest.raises(proc.CommandFailed, match="denied"):
            sql(container, "backup", PASSWORDS["backup"], forbidden)


def test_the_monitor_measures_and_reads_no_page(booted: tuple[Pod, Container]) -> None:
    _pod, container = booted
    counters = "SELECT COUNT(*) > 0 FROM performance_schema.global_status"
    assert sql(container, "monitor", PASSWORDS["monitor"], counters).strip() == "1"
    with pytest.raises(proc.CommandFailed, match="denied"):
        sql(container, "monitor", PASSWORDS["monitor"], "SELECT * FROM xwiki.t")


def test_the_schemas_take_every_script_and_tell_case_apart(booted: tuple[Pod, Container]) -> None:
    _pod, container = booted
    names = (
        "USE sub_wiki; CREATE TABLE n (name VARCHAR(9) UNIQUE); INSERT INTO n VALUES ('a'), ('A')"
    )
    sql(container, "xwiki", ODD, names)
    assert sql(container, "xwiki", ODD, "SELECT COUNT(*) FROM sub_wiki.n").strip() == "2"


def test_the_buffer_pool_is_as_large_as_it_is_told_on_any_node(
    booted: tuple[Pod, Container],
) -> None:
    """Several instances, which the server takes by itself on many cores, are each rounded up."""
    _pod, container = booted
    asked = "SELECT @@innodb_buffer_pool_size, @@innodb_buffer_pool_instances"
    size, instances = sql(container, "monitor", PASSWORDS["monitor"], asked).split()
    assert (int(size), instances) == (128 * 2**20, "1")
    # With few cores the server comes to the same number by itself.
    source = (
        "SELECT variable_source FROM performance_schema.variables_info"
        " WHERE variable_name = 'innodb_buffer_pool_instances'"
    )
    assert sql(container, "monitor", PASSWORDS["monitor"], source).strip() == "EXPLICIT"


def test_no_password_is_in_the_log_or_the_process_list(booted: tuple[Pod, Container]) -> None:
    _pod, container = booted
    commands = container.execute("bash", "-c", "tr '\\0' ' ' </proc/1/cmdline")
    assert "mysqld" in commands
    for password in PASSWORDS.values():
        assert password not in container.logs()
        assert password not in commands


def test_a_rotated_password_is_taken_at_the_next_start_and_the_old_one_refused(
    booted: tuple[Pod, Container],
) -> None:
    pod, container = booted
    container.do("stop", "--time", "60")
    assert container.state()["ExitCode"] == 0
    changed = {name: f"new-{name}" for name in PASSWORDS}
    pod.set_passwords(changed)
    again = pod.start("mysql-rotated")
    ready(again)
    assert sql(again, "xwiki", "new-xwiki", "SELECT a FROM xwiki.t").strip() == "7"
    with pytest.raises(proc.CommandFailed, match="denied"):
        sql(again, "xwiki", ODD, "SELECT 1")
    again.do("stop", "--time", "60")


def begun(pod: Pod, name: str) -> Container:
    """A first boot in the midst of making the data directory."""
    container = pod.start(name)
    deadline = time.monotonic() + 60
    while not (pod.data / "initialising" / "mysql.ibd").exists():
        assert time.monotonic() < deadline, container.logs()
        time.sleep(0.02)
    return container


def boots(pod: Pod, name: str) -> None:
    """The next boot makes a whole data directory."""
    assert not (pod.data / "data").exists()
    container = pod.start(name)
    ready(container)
    assert (pod.data / "data" / "mysql.ibd").exists()
    assert not (pod.data / "initialising").exists()
    container.do("stop", "--time", "60")


def test_a_first_boot_that_is_killed_leaves_nothing_that_is_taken_for_a_database(
    pod: Pod,
) -> None:
    begun(pod, "mysql-killed").do("kill")
    boots(pod, "mysql-after-kill")


def test_a_first_boot_ends_when_it_is_told(pod: Pod) -> None:
    first = begun(pod, "mysql-stopped")
    began = time.monotonic()
    # Docker kills what has not ended by then, which is exit code 137.
    first.do("stop", "--time", "20")
    assert first.state()["ExitCode"] == 143
    assert time.monotonic() - began < 10
    boots(pod, "mysql-after-stop")


@pytest.mark.parametrize(
    ("value", "words"),
    [("", "has no key backup-password"), ("two\nlines", "backup-password holds a line break")],
)
def test_a_secret_that_cannot_be_used_is_explained(
    booted: tuple[Pod, Container], tmp_path: Path, value: str, words: str
) -> None:
    other = Pod(booted[0].host, booted[0].image, tmp_path)
    (other.data / "data").mkdir(mode=0o777)  # as after a first boot
    tmp_path.chmod(0o755)
    other.set_passwords({"backup": value})
    assert words in other.fails()
