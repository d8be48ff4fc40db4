"""The statements that verifications need most, prepared once per connection; each says what its parameters are."""

MAX_FUNCTIONS_PER_DAY = 64
OTHER_FUNCTIONS = "其他"
"""Counts a card's functions after the first `MAX_FUNCTIONS_PER_DAY`, so that clients cannot flood the table."""

# $1 the card's ID, $2 the SHA-256 of the hardware, $3 the program. The rival is the client of another of its cards with
# this hardware.
_READ_FACTS = """
SELECT card.validity, card.activated_at, card.expires_at, card.frozen_at, card.renewed_card_id,
    client.id, client.hardware, client.ip,
    card.imported_key IS NOT NULL, card.program,
    rival.id, rival.card_id, rival.hardware, rival.ip,
    rival_card.validity, rival_card.activated_at, rival_card.expires_at, rival_card.frozen_at,
    rival_card.renewed_card_id
FROM card
LEFT JOIN client ON client.card_id = card.id
LEFT JOIN client rival
    ON rival.hardware_sha256 = $2::text AND rival.program = $3::text AND rival.card_id <> card.id
LEFT JOIN card rival_card ON rival_card.id = rival.card_id
WHERE card.id = $1::text
"""

# Records the requests of bound cards where nothing changes, and returns their facts; no row for any other.
# Arrays with a member for each card: $1 IDs, sorted, $2 SHA-256s of the hardware, $3 addresses, $4 functions,
# $5 programs, $6 numbers of requests that are recorded as one. For all: $7 the day, $8 the time.
#
# The conditions are no second home of the rules: where they hold, the rules accept and change nothing, and all else is
# decided elsewhere. The usage row must exist: the day's first request of a function takes `bindings.apply`. They are
# checked again when the statement has waited for a client's row, so a client that was unbound or moved to another card
# meanwhile is left alone.
_TOUCH = """
WITH asked AS (
    SELECT unnest($1::text[]) AS card_id, unnest($2::text[]) AS hardware_sha256, unnest($3::text[]) AS ip,
        unnest($4::text[]) AS function, unnest($5::text[]) AS program, unnest($6::int[]) AS times
), seen AS (
    UPDATE client SET requested_at = $8::timestamptz, function = asked.function
    FROM asked, card
    WHERE client.card_id = asked.card_id AND client.hardware_sha256 = asked.hardware_sha256 AND client.ip = asked.ip
        AND client.program = asked.program
        AND card.id = client.card_id AND card.is_activated AND card.frozen_at IS NULL
        AND (card.expires_at IS NULL OR card.expires_at > $8::timestamptz)
        AND EXISTS (
            SELECT FROM usage
            WHERE usage.card_id = asked.card_id AND usage.day = $7::date AND usage.function = asked.function
        )
    RETURNING card.id AS card_id, card.validity, card.activated_at, card.expires_at, card.frozen_at,
        card.renewed_card_id, client.id, client.hardware, client.ip, asked.function, asked.times
), counted AS (
    UPDATE usage SET count = usage.count + seen.times, last_at = $8::timestamptz
    FROM seen
    WHERE usage.card_id = seen.card_id AND usage.day = $7::date AND usage.function = seen.function
)
SELECT card_id, validity, activated_at, expires_at, frozen_at, renewed_card_id, id, hardware, ip FROM seen
"""

# Counts an accepted request of a card that the transaction has locked.
_COUNT = f"""
INSERT INTO usage AS of_day (card_id, day, function, count, last_at)
SELECT {{card}}, {{day}}, CASE
    WHEN NOT EXISTS (
        SELECT FROM usage WHERE usage.card_id = {{card}} AND usage.day = {{day}} AND usage.function = {{function}}
    ) AND (
        SELECT count(*) FROM usage
        WHERE usage.card_id = {{card}} AND usage.day = {{day}} AND usage.function <> '{OTHER_FUNCTIONS}'
    ) >= {MAX_FUNCTIONS_PER_DAY} THEN '{OTHER_FUNCTIONS}'
    ELSE {{function}}
END, 1, {{at}}
{{source}}
ON CONFLICT (card_id, day, function) DO UPDATE SET count = of_day.count + 1, last_at = {{at}}
"""  # noqa: S608  # our own constants

# $1 the card's ID, $2 the day, $3 the function, $4 the time.
_COUNT_USAGE = _COUNT.format(card="$1::text", day="$2::date", function="$3::text", at="$4::timestamptz", source="")

NEW_CLIENT = {
    "card": "text",
    "validity": "interval",
    "activated_at_before": "timestamptz",
    "expires_at_before": "timestamptz",
    "activated_at": "timestamptz",
    "expires_at": "timestamptz",
    "client": "text",
    "hardware": "text",
    "hardware_sha256": "text",
    "ip": "text",
    "function": "text",
    "requested_at": "timestamptz",
    "day": "date",
    "at": "timestamptz",
    "kind": "text",
    "reference": "text",
    "ip_network": "text",
    "claimed_ip": "text",
    "details": "jsonb",
}
"""What `create_client` takes, with its types: columns of `card` before and after, `client`, `usage` and `event`."""
_NEW = {name: f"${number}::{kind}" for number, (name, kind) in enumerate(NEW_CLIENT.items(), 1)}

# Binds a card without a client to a new machine, with all that belongs to it, if the card is still as it was. Returns a
# row if it was. A client that the card or the machine has meanwhile violates a unique constraint.
_CREATE_CLIENT = """
WITH bound AS (
    UPDATE card SET is_activated = true, activated_at = {activated_at}, expires_at = {expires_at}
    WHERE id = {card} AND validity IS NOT DISTINCT FROM {validity}
        AND activated_at IS NOT DISTINCT FROM {activated_at_before}
        AND expires_at IS NOT DISTINCT FROM {expires_at_before}
        AND frozen_at IS NULL AND renewed_card_id IS NULL
    RETURNING id AS card_id, program
), created AS (
    INSERT INTO client (id, card_id, program, hardware, hardware_sha256, ip, requested_at, function)
    SELECT {client}, card_id, program, {hardware}, {hardware_sha256}, {ip}, {requested_at}, {function} FROM bound
), counted AS ({count}), journalled AS (
    INSERT INTO event (at, kind, card_id, reference, ip, ip_network, claimed_ip, hardware, function, details)
    SELECT {at}, {kind}, card_id, {reference}, {ip}, {ip_network}, {claimed_ip}, {hardware}, {function}, {details}
    FROM bound
)
SELECT card_id FROM bound
""".format(  # noqa: S608  # as above
    **_NEW,
    count=_COUNT.format(
        card="bound.card_id", day=_NEW["day"], function=_NEW["function"], at=_NEW["requested_at"], source="FROM bound"
    ),
)

PREPARED = {"read_facts": _READ_FACTS, "touch": _TOUCH, "create_client": _CREATE_CLIENT, "count_usage": _COUNT_USAGE}
"""The statements by name; arguments in the order of their `$` numbers."""
