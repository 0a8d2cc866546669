"""What the MySQL image does, as far as the charts, the wiki and the tests rely on it.

The same tests run on the official image (`MYSQL_IMAGE=docker.io/library/mysql:<tag>`) and on the
one of images/mysql. Facts: the official image's documentation.
"""

import re
from collections.abc import Iterator

import pytest

from tests.contract.conftest import open_folder
from tests.contract.containers import Container, Host
from xwiki_stack import proc

ROOT, OTHER = "Root7password", "Writer7'\\password"
CLIENT = ["mysql", "--no-defaults", "--host=127.0.0.1", "--get-server-public-key", "-BN"]
"""Over TCP, which the server listens to only once its first start is over."""


def sql(server: Container, user: str, password: str, statement: str) -> str:
    """What the server says. Raises CommandFailed when it refuses."""
    words = [*CLIENT, f"--user={user}"]
    return server.execute(*words, stdin=statement, env={"MYSQL_PWD": password}).strip()


def ready(server: Container, user: str, password: str) -> None:
    """Wait until the account may log in."""
    words = [*CLIENT, f"--user={user}", "--execute=SELECT 1"]
    server.until(*words, env={"MYSQL_PWD": password})


@pytest.fixture(scope="module")
def server(
    host: Host, mysql_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """A server made by the image's own entrypoint, its settings as variables and files."""
    given = open_folder(tmp_path_factory, "given")
    (given / "root").write_text(ROOT)
    (given / "10-table.sql").write_text("CREATE TABLE made (by_sql INT);\n")
    (given / "20-row.sh").write_text("echo ran a script\n")
    for file in given.iterdir():
        file.chmod(0o644)
    env = {
        "MYSQL_ROOT_PASSWORD_FILE": "/docker-entrypoint-initdb.d/root",
        "MYSQL_DATABASE": "wiki",
        "MYSQL_USER": "writer",
        "MYSQL_PASSWORD": OTHER,
    }
    mount = ["-v", f"{given}:/docker-entrypoint-initdb.d:ro"]
    made = host.start("mysql-contract", mysql_image, env=env, options=mount)
    ready(made, "writer", OTHER)
    yield made
    made.remove()


def test_the_image_names_its_ports_and_its_volume(host: Host, mysql_image: str) -> None:
    config = host.inspect(mysql_image)
    assert {"3306/tcp", "33060/tcp"} <= set(config["ExposedPorts"])
    assert list(config["Volumes"]) == ["/var/lib/mysql"]
    assert config["Cmd"] == ["mysqld"]


def test_any_other_command_runs_as_it_is(host: Host, mysql_image: str) -> None:
    script = "type bash mysqld mysql mysqladmin mysqldump; id -u mysql; id -g mysql"
    said = host.once(mysql_image, "bash", "-c", script)
    assert said.code == 0, said.err
    assert said.out.split()[-2:] == ["999", "999"]


def test_the_server_is_of_a_line_that_we_support(host: Host, mysql_image: str) -> None:
    said = host.once(mysql_image, "mysqld", "--version").out
    assert re.search(r"Ver (9\.7|8\.4)\.\d+", said), said


def test_accounts_and_database_are_made_on_the_first_start(server: Container) -> None:
    assert sql(server, "root", ROOT, "SELECT CURRENT_USER()") == "root@%"
    assert sql(server, "writer", OTHER, "SHOW TABLES IN wiki") == "made"
    assert "ran a script" in server.logs()


def test_an_account_reaches_its_own_database_alone(server: Container) -> None:
    with pytest.raises(proc.CommandFailed, match=r"[Dd]enied"):
        sql(server, "writer", OTHER, "SELECT COUNT(*) FROM mysql.user")
    with pytest.raises(proc.CommandFailed, match="PROCESS"):
        sql(server, "writer", OTHER, "SELECT COUNT(*) FROM information_schema.INNODB_TABLES")
    with pytest.raises(proc.CommandFailed, match=r"[Dd]enied"):
        sql(server, "root", "wrong", "SELECT 1")


def test_data_and_passwords_outlive_the_server(server: Container) -> None:
    sql(server, "writer", OTHER, "INSERT INTO wiki.made VALUES (42)")
    server.do("kill")
    server.do("start")
    ready(server, "writer", OTHER)
    assert sql(server, "writer", OTHER, "SELECT by_sql FROM wiki.made") == "42"


def test_the_server_runs_as_any_user(host: Host, mysql_image: str) -> None:
    env = {"MYSQL_ROOT_PASSWORD": ROOT}
    server = host.start("any-user", mysql_image, env=env, options=["--user", "12345:12345"])
    ready(server, "root", ROOT)
    owner = server.execute("stat", "--format=%u", "/var/lib/mysql/mysql.ibd")
    assert owner.strip() == "12345"
    server.remove()


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({}, "MYSQL_ROOT_PASSWORD"),
        (
            {"MYSQL_ROOT_PASSWORD": ROOT, "MYSQL_USER": "root", "MYSQL_PASSWORD": OTHER},
            "MYSQL_USER",
        ),
        (
            {"MYSQL_ROOT_PASSWORD": ROOT, "MYSQL_ROOT_PASSWORD_FILE": "/etc/hostname"},
            "MYSQL_ROOT_PASSWORD_FILE",
        ),
    ],
    ids=["no root password", "root as the user", "a variable and its file"],
)
def test_a_first_start_is_refused_with(
    env: dict[str, str], named: str, host: Host, mysql_image: str
) -> None:
    said = host.once(mysql_image, env=env, seconds=60)
    assert said.code == 1
    assert named in said.out + said.err
