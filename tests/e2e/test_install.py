"""`up` ends with a page served from MySQL, and says what a newcomer needs to know."""

import re

import requests

from tests.e2e.conftest import WIKI_PORT, Bed
from tests.e2e.wiki import Wiki
from xwiki_stack import up


def sql(bed: Bed, wiki: Wiki, statement: str) -> str:
    """What MySQL itself says, asked as root over its socket; the password never in argv."""
    script = 'MYSQL_PWD="$(cat)" exec mysql --user=root --batch --skip-column-names -e "$1"'
    words = ["exec", "-i", "-n", wiki.namespace, "xwiki-stack-mysql-0", "-c", "mysql", "--"]
    password = wiki.password("mysql", "root-password")
    answer = bed.kubectl(*words, "bash", "-c", script, "sql", statement, stdin=password)
    return answer.out.strip()


def test_up_prints_url_admin_what_runs_how_long_and_what_next(wiki: Wiki) -> None:
    assert f"http://127.0.0.1:{WIKI_PORT}/bin/view/Main/WebHome" in wiki.report
    assert "Admin" in wiki.report
    assert "xwiki-stack password" in wiki.report
    assert re.search(r"xwiki-standin|docker\.io/library/xwiki", wiki.report)
    assert re.search(r"Kubernetes v1\.\d+", wiki.report)
    assert "How long it took" in wiki.report
    assert len(re.findall(r"^  (?:\.venv/bin/xwiki-stack|make) ", wiki.report, re.M)) >= 3


def test_a_second_up_converges_and_says_where_nothing_was_to_do(bed: Bed, wiki: Wiki) -> None:
    before = bed.uids(wiki.namespace)
    revision = bed.release(wiki.namespace).revision()
    answer = bed.cli("up", "--port", str(WIKI_PORT))
    assert answer.returncode == 0, answer.stderr
    for step in ("Namespace and Secrets", "Chart", "MySQL", "XWiki", "First page and admin"):
        assert re.search(rf"{step}: nothing to do", answer.stdout), answer.stdout
    assert bed.uids(wiki.namespace) == before
    assert bed.release(wiki.namespace).revision() == revision


def test_the_first_page_is_served_to_a_visitor_without_a_wizard(wiki: Wiki) -> None:
    answer = wiki.request("GET", up.PAGE)
    assert answer.status_code == requests.codes.ok
    assert "wizard" not in answer.text.lower()


def test_a_page_written_over_rest_is_a_row_in_mysql(bed: Bed, wiki: Wiki) -> None:
    wiki.write("InMySQL", "kept in a real database")
    count = "SELECT COUNT(*) FROM xwiki.xwikidoc WHERE XWD_FULLNAME='Tests.InMySQL'"
    assert sql(bed, wiki, count) == "1"
    assert sql(bed, wiki, count.replace("InMySQL", "Absent")) == "0"


def test_a_wrong_password_is_nobody(wiki: Wiki) -> None:
    good = wiki.request("GET", "/rest", auth=wiki.admin)
    bad = wiki.request("GET", "/rest", auth=("Admin", "wrong"))
    assert good.headers["XWiki-User"] == "xwiki:XWiki.Admin"
    assert "Guest" in bad.headers["XWiki-User"]


def test_the_schema_is_utf8mb4_and_case_sensitive(bed: Bed, wiki: Wiki) -> None:
    columns = "DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME"
    said = sql(
        bed,
        wiki,
        f"SELECT {columns} FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='xwiki'",
    )
    assert said.split() == ["utf8mb4", "utf8mb4_bin"]


def test_pods_run_without_root_and_on_a_read_only_file_system(bed: Bed, wiki: Wiki) -> None:
    looked = 0
    for component in ("xwiki", "mysql"):
        for pod in bed.pods(wiki.namespace, component):
            name = pod["metadata"]["name"]
            words = ["exec", "-n", wiki.namespace, name, "--"]
            assert int(bed.kubectl(*words, "id", "-u").out) > 0
            assert bed.kubectl(*words, "sh", "-c", "echo > /probe", check=False).code != 0
            looked += 1
    assert looked == 2


def test_the_cluster_is_seen_through_pytest_helm_charts(kube_cluster: object, wiki: Wiki) -> None:
    pods = kube_cluster.kubectl(f"get pods -n {wiki.namespace}")  # type: ignore[attr-defined]
    assert {p["metadata"]["labels"]["app.kubernetes.io/component"] for p in pods} >= {
        "xwiki",
        "mysql",
    }


def test_the_password_command_prints_what_logs_the_admin_in(bed: Bed, wiki: Wiki) -> None:
    answer = bed.cli("password")
    assert answer.stdout.strip() == wiki.admin[1]


def test_status_of_a_healthy_wiki_is_healthy(bed: Bed, wiki: Wiki) -> None:
    answer = bed.cli("status")
    assert answer.returncode == 0, answer.stdout
    assert f"{wiki.namespace}/xwiki-stack: healthy" in answer.stdout
