"""The vendor's terms, the block list, and cards that were used up to renew another.

The program before this one knows none of them: until the last machine is upgraded, leave the terms and blocks alone.
"""

from typing import Any

OLDEST = "0021_hosts"

STATEMENTS = """
CREATE TABLE terms (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    revision bigint NOT NULL CHECK (revision > 0),
    binding text NOT NULL CHECK (binding IN ('either', 'hardware', 'both')),
    changes_per_day integer CHECK (changes_per_day BETWEEN 1 AND 1000),
    minimum_version text CHECK (length(minimum_version) <= 32 AND minimum_version ~ '^[0-9]+(\\.[0-9]+)*$'),
    latest_version text CHECK (length(latest_version) <= 32 AND latest_version ~ '^[0-9]+(\\.[0-9]+)*$'),
    update_url text CHECK (length(update_url) <= 500 AND starts_with(update_url, 'https://')),
    notice text CHECK (length(notice) BETWEEN 1 AND 500),
    self_service boolean NOT NULL,
    self_unbind_per_30_days integer NOT NULL CHECK (self_unbind_per_30_days BETWEEN 0 AND 1000),
    self_unbind_cost interval CHECK (self_unbind_cost > interval '0'),
    self_renew boolean NOT NULL,
    contact text CHECK (length(contact) BETWEEN 1 AND 200)
);

CREATE TABLE block (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hardware_sha256 text UNIQUE CHECK (hardware_sha256 ~ '^[0-9a-f]{64}$'),
    network text UNIQUE CHECK (network = network::cidr::text AND masklen(network::cidr) > 0),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
    actor text NOT NULL,
    created_at timestamptz NOT NULL,
    hits bigint NOT NULL DEFAULT 0 CHECK (hits >= 0),
    last_hit_at timestamptz,
    CONSTRAINT block_one CHECK (num_nonnulls(hardware_sha256, network) = 1),
    CONSTRAINT block_hit CHECK ((hits > 0) = (last_hit_at IS NOT NULL))
);

ALTER TABLE card
    ADD COLUMN renewed_card_id text REFERENCES card,
    ADD CONSTRAINT card_spent CHECK (
        renewed_card_id IS NULL OR (NOT is_activated AND frozen_at IS NULL AND renewed_card_id <> id)
    );
CREATE INDEX card_renewed ON card (renewed_card_id) WHERE renewed_card_id IS NOT NULL;
CREATE INDEX card_spent ON card (created_at, id) INCLUDE (note) WHERE renewed_card_id IS NOT NULL;
DROP INDEX card_unused;
CREATE INDEX card_unused ON card (created_at, id) INCLUDE (note)
    WHERE frozen_at IS NULL AND NOT is_activated AND renewed_card_id IS NULL;
DROP INDEX card_batch;
CREATE INDEX card_batch ON card (COALESCE(batch, ''), created_at, id)
    INCLUDE (batch, is_activated, frozen_at, renewed_card_id, note);
"""


def up(_migrator: Any, db: Any) -> None:
    db.execute_sql(STATEMENTS)
