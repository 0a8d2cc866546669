"""What the XWiki image is before it runs: its metadata, its files, its entrypoint.

The same tests run on the real image (`XWIKI_IMAGE=docker.io/library/xwiki:<tag>`) and on the
stand-in. Facts: the documentation of XWiki's image and what its entrypoint was seen to do.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import CONFIGURATION, UNPRIVILEGED, WEB_INF, Hardening
from tests.contract.containers import Host
from tests.contract.wiki import VOLUME
from xwiki_stack import proc

# None of these tests needs the server; it starts while they run, for those that come next.
pytestmark = pytest.mark.usefixtures("starting_server")

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
    assert list(config["Volumes"]) == [VOLUME]
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


SPY = f"""
show() {{ stat --format='scratch %a' {VOLUME}/data/tmp/* 1>&2 2>/dev/null || true; }}
export -f show
for name in sed cat cp mv rm; do
    eval "$name() {{ show; command $name \\"\\$@\\"; }}"
    export -f "$name"
done
exec docker-entrypoint.sh xwiki
"""
"""Starts the entrypoint with commands that first show the modes of what lies in data/tmp."""


@pytest.fixture(scope="package")
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


def test_every_setting_may_come_from_a_file(configure: Configure, tmp_path: Path) -> None:
    given = {
        "DB_USER": "writer",
        "DB_PASSWORD": "fromfile",
        "DB_DATABASE": "pages",
        "DB_HOST": "elsewhere",
        "DB_PORT": "3307",
        "JDBC_PARAMS": "?x=y",
        "SOLR_BASE_URL": "http://solr:8983/solr",
        "CONTEXT_PATH": "wiki",
    }
    for name, value in given.items():
        (tmp_path / name).write_text(f"{value}\n")
    env = {f"{name}_FILE": f"/run/secrets/{name}" for name in given}
    said = configure(options=("-v", f"{tmp_path}:/run/secrets:ro"), **env)
    assert said.code == 0, said.err
    assert "jdbc:mysql://elsewhere:3307/pages?x=y<" in said.out
    assert ">writer<" in said.out
    assert ">fromfile<" in said.out
    assert {
        "xwiki.db=pages",
        "xwiki.webapppath=wiki",
        "solr.remote.baseURL=http://solr:8983/solr",
    } <= set(said.out.splitlines())


def test_a_setting_and_its_file_exclude_each_other(configure: Configure) -> None:
    said = configure(DB_USER="writer", DB_USER_FILE="/etc/hostname")
    assert said.code == 1
    assert "DB_USER_FILE" in said.out + said.err


def test_a_password_with_a_space_is_refused(configure: Configure) -> None:
    assert configure(DB_PASSWORD="two words").code == 1


@pytest.mark.parametrize("name", CONFIGURATION)
def test_a_file_in_the_permanent_directory_beats_settings(
    name: str, configure: Configure, tmp_path: Path
) -> None:
    settings = {
        "hibernate.cfg.xml": "jdbc:mysql://elsewhere/pages?",
        "xwiki.cfg": "xwiki.db=pages",
        "xwiki.properties": "solr.type=remote",
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("# mine alone\n")
    options = ("-v", f"{tmp_path}:{VOLUME}")
    said = configure(
        options=options, DB_HOST="elsewhere", DB_DATABASE="pages", SOLR_BASE_URL="http://solr"
    )
    assert said.code == 0, said.err
    assert said.out.count("# mine alone") == 1
    assert {file for file, text in settings.items() if text not in said.out} == {name}


def test_what_it_writes_on_the_way_is_for_its_own_eyes(configure: Configure) -> None:
    said = configure("bash", "-c", SPY)
    assert said.code == 0, said.err
    assert set(re.findall("^scratch .*$", said.err, re.M)) == {"scratch 600"}


def test_a_read_only_permanent_directory_ends_the_start(
    configure: Configure, tmp_path: Path
) -> None:
    said = configure(options=("-v", f"{tmp_path}:{VOLUME}:ro"))
    assert said.code == 1
    assert "Read-only file system" in said.err


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
    mount = ("-v", f"{tmp_path}:{VOLUME}")
    assert configure(options=mount).code == 0
    assert not (tmp_path / "data" / "tmp" / "leftover").exists()
    assert (tmp_path / "data" / "logs").is_dir()
    assert configure(options=(*mount, "--tmpfs", f"{VOLUME}/data/tmp")).code == 1


def test_a_read_only_root_needs_writable_copies_of_the_configuration(
    configure: Configure, host: Host, xwiki_image: str, hardening: Hardening
) -> None:
    data = ("-v", f"{host.volume(xwiki_image, VOLUME)}:{VOLUME}")
    bare = configure(options=(*UNPRIVILEGED, *data))
    assert bare.code == 1
    assert "Read-only file system" in bare.err
    said = configure(options=tuple(hardening()), DB_HOST="elsewhere")
    assert said.code == 0, said.err
    assert "jdbc:mysql://elsewhere/xwiki" in said.out
    moved = configure(options=tuple(hardening()), CONTEXT_PATH="wiki")
    assert moved.code == 1


def test_another_context_path_takes_the_place_of_the_root(configure: Configure) -> None:
    said = configure(CONTEXT_PATH="wiki")
    assert "wiki\n" in said.out
    assert "ROOT\n" not in said.out
    assert "xwiki.webapppath=wiki" in said.out
