"""What an operator sees of a running service: metrics and the log of requests."""

import json
import re
import urllib.request

import pytest

from tests.support.service import Service, question, wait_for


def test_metrics_add_up_across_the_processes(own_service: Service) -> None:
    for _ in range(40):
        own_service.verify(question("0" * 32))
    with urllib.request.urlopen(f"http://127.0.0.1:{own_service.port}/metrics") as answer:
        text = answer.read().decode()
    counted = re.search(r'kadun_verdicts_total\{code="CARD_NOT_FOUND"\} ([0-9.]+)', text)
    assert counted is not None
    assert float(counted[1]) == 40


def test_a_request_is_one_line_of_json_with_its_id(service: Service) -> None:
    answer = service.verify(question("0" * 32))

    def logged() -> list[dict[str, object]]:
        # Not `splitlines`: a path in a line may hold what Unicode calls a line's end. The last may be on its way.
        lines = [json.loads(line) for line in service.log.read_text().split("\n")[:-1]]
        return [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]

    (line,) = wait_for(logged)
    assert (line["message"], line["status"], line["code"]) == ("request", 404, "CARD_NOT_FOUND")


def test_control_characters_of_a_path_are_escaped_in_the_log(service: Service) -> None:
    service.get("/%C2%9B31m%E2%80%AE")
    line = wait_for(lambda: [line for line in service.log.read_text().split("\n")[:-1] if "31m" in line])[0]
    assert line.isprintable()
    assert json.loads(line)["path"] == r"/\x9b31m\u202e"


@pytest.mark.parametrize(
    ("sent", "logged"),
    [("long-" + "x" * 3000, "/long-" + "x" * 194), ("%07" * 300, "/" + r"\x07" * 49 + r"\x0")],
)
def test_a_long_path_is_logged_up_to_200_characters(service: Service, sent: str, logged: str) -> None:
    request_id = service.get("/" + sent).headers["x-request-id"]
    line = wait_for(lambda: [line for line in service.log.read_text().split("\n")[:-1] if request_id in line])[0]
    assert json.loads(line)["path"] == logged
