"""What the XWiki image is before it runs: its metadata, its files, its entrypoint.

The same tests run on the real image (`XWIKI_IMAGE=docker.io/library/xwiki:<tag>`) and on the
stand-in. Facts: the documentation of XWiki's image and what its entrypoint was seen to do.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import CONFIGURATION, WEB_INF, open_folder
from tests.contract.containers import Host
from xwiki_stack import proc

pytestmark = pytest.mark.contract

SHOW = f"""#!/bin/bash
echo "arguments: $*"
echo "JAVA_OPTS=$JAVA_OPTS"
echo "CATALINA_TMPDIR=$CATALINA_TMPDIR"
ls /usr/local/tomcat/webapps
for name in {" ".join(CONFIGURATION)}; do
    cat /usr/local/tomcat/webapps/*/WEB-INF/$name
done
"""
"""Takes the place of Tomcat's starter and shows what the entrypoint made for it."""

Configure = Callable[..., proc.Result]


def test_the_image_serves_http_alone_and_keeps_its_data_on_one_volume(
    host: Host, xwiki_image: str
) -> None:
    config = host.inspect(xwiki_image)
    assert config.get("User", "") in ("", "root", "0")
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert list(config["Volumes"]) == ["/usr/local/xwiki"]
    assert config["WorkingDir"] == "/usr/local/tomcat"
    assert [Path(word).name for word in config["Entrypoint"]] == ["docker-entrypoint.sh"]
    assert config["Cmd"] == ["xwiki"]


def test_any_other_command_runs_as_it_is(host: Host, xwiki_image: str) -> None:
    script = "id -u; pwd; type bash curl unzip cp; type mysql || echo no client"
    said = host.once(xwiki_image, "bash", "-c", script)
    assert said.out.splitlines()[:2] == ["0", "/usr/local/tomcat"]
    assert said.out.splitlines()[-1] == "no client"
    assert said.err.count("not found") == 1, said.err


def test_only_three_folders_below_tomcat_are_open_to_every_user(
    host: Host, xwiki_image: str
) -> None:
    find = "find /usr/local/tomcat ! -type l ( -perm -o+w -o ! -perm -o+r -o ! -uid 0 )"
    said = host.once(xwiki_image, *find.split(), "-printf", "%m %p\\n")
    places = {f"1777 /usr/local/tomcat/{name}" for name in ("logs", "temp", "work")}
    # What the build left in them is nobody's business.
    found = {line for line in said.out.splitlines() if line.count("/") == 4}
    assert found == places


def test_the_configuration_holds_the_placeholders(host: Host, xwiki_image: str) -> None:
    said = host.once(xwiki_image, "cat", f"{WEB_INF}/hibernate.cfg.xml").out
    for word in ("user", "password", "container", "database", "jdbcparams"):
        assert f"replace{word}" in said
    assert {f"{WEB_INF}/{name}" for name in CONFIGURATION} <= set(
        host.once(xwiki_image, "find", WEB_INF, "-maxdepth", "1").out.split()
    )


@pytest.fixture(scope="session")
def configure(host: Host, xwiki_image: str, tmp_path_factory: pytest.TempPathFactory) -> Configure:
    """Runs the entrypoint with Tomcat's starter replaced by one that shows what it was given."""
    shown = tmp_path_factory.mktemp("starter") / "catalina.sh"
    shown.write_text(SHOW)
    shown.chmod(0o755)
    starter = ["-v", f"{shown}:/usr/local/tomcat/bin/catalina.sh:ro"]

    def run(*words: str, options: tuple[str, ...] = (), **env: str) -> proc.Result:
        return host.once(xwiki_image, *words, env=env, options=[*starter, *options])

    return run


def test_without_settings_the_entrypoint_takes_its_defaults(configure: Configure) -> None:
    said = configure()
    assert said.code == 0, said.err
    assert "arguments: run\n" in said.out
    assert "jdbc:mysql://db/xwiki?useSSL=false&amp;connectionTimeZone=LOCAL" in said.out
    assert "environment.permanentDirectory=/usr/local/xwiki/data" in said.out
    assert "CATALINA_TMPDIR=/usr/local/xwiki/data/tmp" in said.out
    (options,) = [line for line in said.out.splitlines() if line.startswith("JAVA_OPTS=")]
    for pattern in ("-Xmx1024m", "ALLOW_ENCODED_SLASH", "ALLOW_BACKSLASH", "java.security.egd"):
        assert pattern in options


def test_a_flag_starts_the_wiki_too(configure: Configure) -> None:
    assert "jdbc:mysql://db/xwiki" in configure("-security").out


def test_settings_reach_the_configuration(configure: Configure) -> None:
    said = configure(
        DB_HOST="elsewhere",
        DB_PORT="3307",
        DB_DATABASE="pages",
        DB_USER="writer",
        # What a shell, sed or a glob could take for its own.
        DB_PASSWORD="a\\b$c'd*e~f/g|h",
        JDBC_PARAMS="?useSSL=true&amp;x=y",
        SOLR_BASE_URL="http://solr:8983/solr",
        INDEX_HOST="ignored",
    )
    assert said.code == 0, said.err
    assert "jdbc:mysql://elsewhere:3307/pages?useSSL=true&amp;x=y<" in said.out
    assert ">writer<" in said.out
    assert ">a\\b$c'd*e~f/g|h<" in said.out
    lines = said.out.splitlines()
    assert "xwiki.db=pages" in lines
    assert "solr.type=remote" in lines
    assert "solr.remote.baseURL=http://solr:8983/solr" in lines
    assert "ignored" not in said.out


def test_a_literal_heap_is_kept_and_a_percentage_is_not_enough(configure: Configure) -> None:
    kept = configure(JAVA_OPTS="-Xmx700m")
    assert "-Xmx700m" in kept.out
    assert "-Xmx1024m" not in kept.out
    assert "-Xmx1024m" in configure(JAVA_OPTS="-XX:MaxRAMPercentage=70").out


def test_a_setting_may_come_from_a_file(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("fromfile\n")
    mount = ("-v", f"{tmp_path}:/run/secrets:ro")
    said = configure(options=mount, DB_PASSWORD_FILE="/run/secrets/password")
    assert ">fromfile<" in said.out


def test_a_setting_and_its_file_exclude_each_other(configure: Configure) -> None:
    said = configure(DB_USER="writer", DB_USER_FILE="/etc/hostname")
    assert said.code == 1
    assert "DB_USER_FILE" in said.out + said.err


def test_a_password_with_a_space_is_refused(configure: Configure) -> None:
    assert configure(DB_PASSWORD="two words").code == 1


def test_files_in_the_permanent_directory_beat_settings(
    configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hibernate.cfg.xml").write_text("<mine/>\n")
    said = configure(options=("-v", f"{tmp_path}:/usr/local/xwiki"), DB_HOST="elsewhere")
    assert "<mine/>" in said.out
    assert "elsewhere" not in said.out


def test_a_second_start_on_the_same_files_ignores_a_new_password(configure: Configure) -> None:
    twice = "docker-entrypoint.sh xwiki; DB_PASSWORD=second docker-entrypoint.sh xwiki"
    said = configure("bash", "-c", twice, DB_PASSWORD="first")
    assert said.out.count(">first<") == 2
    assert ">second<" not in said.out


def test_the_temporary_folder_is_made_anew_and_cannot_be_a_mount(
    configure: Configure, tmp_path: Path
) -> None:
    (tmp_path / "data" / "tmp").mkdir(parents=True)
    (tmp_path / "data" / "tmp" / "leftover").touch()
    mount = ("-v", f"{tmp_path}:/usr/local/xwiki")
    assert configure(options=mount).code == 0
    assert not (tmp_path / "data" / "tmp" / "leftover").exists()
    assert (tmp_path / "data" / "logs").is_dir()
    assert configure(options=(*mount, "--tmpfs", "/usr/local/xwiki/data/tmp")).code == 1


def test_a_read_only_root_needs_writable_copies_of_the_configuration(
    configure: Configure,
    hardening: Callable[..., list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = ("-v", f"{open_folder(tmp_path_factory, 'data')}:/usr/local/xwiki")
    bare = configure(options=("--read-only", "--user", "10001", *data))
    assert bare.code == 1
    assert "Read-only file system" in bare.err
    said = configure(options=(*hardening(), *data), DB_HOST="elsewhere")
    assert said.code == 0, said.err
    assert "jdbc:mysql://elsewhere/xwiki" in said.out
    moved = configure(options=(*hardening(), *data), CONTEXT_PATH="wiki")
    assert moved.code == 1


def test_another_context_path_takes_the_place_of_the_root(configure: Configure) -> None:
    said = configure(CONTEXT_PATH="wiki")
    assert "wiki\n" in said.out
    assert "ROOT\n" not in said.out
    assert "xwiki.webapppath=wiki" in said.out
