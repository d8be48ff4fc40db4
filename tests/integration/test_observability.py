"""What an operator sees of a running service: metrics, the log of requests, its health, the journal."""

import json
import re
import urllib.request

from tests.support.service import Response, Service, question, wait_for


def test_metrics_add_up_across_the_processes(own_service: Service) -> None:
    for _ in range(40):
        own_service.verify(question("0" * 32))
    with urllib.request.urlopen(f"http://127.0.0.1:{own_service.port}/metrics") as answer:
        text = answer.read().decode()
    counted = re.search(r'kadun_verdicts_total\{code="CARD_NOT_FOUND"\} ([0-9.]+)', text)
    assert counted is not None
    assert float(counted[1]) == 40


def test_a_request_is_one_line_of_json_whatever_its_path(service: Service) -> None:
    def logged(answer: Response) -> dict[str, object]:
        request_id = answer.headers["x-request-id"]
        # Not `splitlines`: a path in a line may hold what Unicode calls a line's end. The last may be on its way.
        found = wait_for(lambda: [each for each in service.log.read_text().split("\n")[:-1] if request_id in each])
        assert found[0].isprintable()
        return dict(json.loads(found[0]))

    line = logged(service.verify(question("0" * 32)))
    assert (line["message"], line["status"], line["code"]) == ("request", 404, "CARD_NOT_FOUND")
    assert logged(service.get("/%C2%9B31m%E2%80%AE"))["path"] == r"/\x9b31m\u202e"
    assert logged(service.get("/long-" + "x" * 3000))["path"] == "/long-" + "x" * 194
    assert logged(service.get("/" + "%07" * 300))["path"] == "/" + r"\x07" * 49 + r"\x0"


def test_the_health_check_asks_the_running_service_and_the_journal_is_filtered(service: Service) -> None:
    assert service.cardctl("healthcheck").returncode == 0
    (card_id,) = service.issue()
    service.verify(question(card_id))
    service.verify(question("0" * 32))

    def kinds(*arguments: str) -> list[str]:
        return [event["kind"] for event in service.cardctl_json("events", *arguments)]

    assert kinds() == ["rejected", "activated", "issued"]
    assert kinds("--kind", "CARD_NOT_FOUND", "--since", "7d") == ["rejected"]
    assert kinds("--card", "-".join([card_id[:16].lower(), card_id[16:]])) == ["activated"]
    assert "no such reference" in service.cardctl("events", "--reference", "00000000").stderr
