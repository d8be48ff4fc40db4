"""The filter of a list of the journal, read from the texts that a person typed."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from app.domain.addresses import read_network
from app.domain.cards import parse_card_id
from app.domain.codes import Code, EventKind
from app.domain.texts import RefusedError
from app.services.times import parse_time
from app.storage.journal_lists import JournalFilter

JOURNAL_FIELDS = ("kind", "card", "hardware", "address", "function", "actor", "reference", "since", "until")
REJECTIONS = [code for code in Code if code is not Code.OK]
KINDS: dict[str, EventKind | Code] = {str(kind): kind for kind in [*EventKind, *REJECTIONS]}


def parse_journal_filter(fields: Mapping[str, str], zone: ZoneInfo) -> JournalFilter:
    """Return the filter that the fields say.

    Args:
        fields: `JOURNAL_FIELDS`; a missing or empty one does not filter. What clients sent, `hardware` and `function`,
            counts exactly as typed.
        zone: The vendor's, in which dates begin.

    Raises:
        RefusedError: names the field and says what would be right.
    """

    def trimmed(name: str) -> str:
        return fields.get(name, "").strip()

    kind, card, address = trimmed("kind"), trimmed("card"), trimmed("address")
    if kind and kind not in KINDS:
        raise RefusedError(
            f"kind：没有“{kind}”这种日志类型或拒绝代码", f"kind: there is no kind of entry and no code “{kind}”"
        )
    try:
        network = read_network(address) if address else None
    except ValueError as error:
        raise RefusedError(
            f"address：“{address}”不是有效的 IP 地址", f"address: “{address}” is not an IP address"
        ) from error
    return JournalFilter(
        kind=KINDS.get(kind),
        card_id=parse_card_id(card) or card or None,
        hardware=fields.get("hardware") or None,
        network=network,
        actor=trimmed("actor") or None,
        reference=trimmed("reference").upper() or None,
        function=fields.get("function") or None,
        since=parse_time("since", trimmed("since"), zone),
        until=parse_time("until", trimmed("until"), zone),
    )
