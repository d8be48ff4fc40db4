# shellcheck shell=bash
# The signing keys as the host's scripts need them, in data/keys or in the database (KADUN_KEYS). Sourced, never run.

source "$ROOT/scripts/lib/database.sh"

# keys_are_in: folder or database.
keys_are_in() { setting KADUN_KEYS folder; }

# own_key_ids: the IDs of all signing keys that this service has had, one a line: each past key has endorsed the next one.
# Prints nothing before the first start.
own_key_ids() {
    local ring=''
    if [[ $(keys_are_in) == database ]]; then
        ring=$(sealed_keys "$LIVE") || return 1
        [[ -z $ring ]] || ring=$(unseal_keys <<<"$ring") || return 1
    elif [[ -s $ROOT/data/keys/keyring.json ]]; then
        ring=$(<"$ROOT/data/keys/keyring.json")
    fi
    [[ -z $ring ]] || python3 -B -I -c '
import base64, json, sys
ring = json.load(sys.stdin)
endorsers = (json.loads(base64.urlsafe_b64decode(one.split(".")[0] + "==")) for one in ring["endorsements"])
print(*sorted({key["public"]["kid"] for key in ring["keys"]} | {one["kid"] for one in endorsers}), sep="\n")' <<<"$ring"
}

# sealed_keys DATABASE: the signing keys in it, if there are any. Fails where it does not answer.
sealed_keys() {
    local found
    found=$(owner_sql "$1" "SELECT to_regclass('public.key_ring') IS NOT NULL") || return 1
    [[ $found != t ]] || owner_sql "$1" "SELECT sealed FROM key_ring WHERE replaced_at IS NULL"
}

unseal_keys() { age --decrypt --identity "$ROOT/secrets/keys_identity"; }

# migrate_and_carry_keys FROM: where the signing keys are in the database, those of database FROM go on if they continue those of
# the live one, whose schema may be older, or if it has none: clients refuse keys older than those that they have seen.
migrate_and_carry_keys() {
    local sealed keys said
    [[ $(keys_are_in) == database ]] || return 0
    said=$(compose run --rm -T migrate 2>&1 </dev/null) || die "数据库升级失败。The migration failed: $(last_line "$said")"
    sealed=$(sealed_keys "$1") || exit 1
    [[ -n $sealed ]] || return 0
    keys=$(unseal_keys <<<"$sealed" 2>/dev/null) || { # as where another identity was put back since a first start
        warn "现有的签名密钥打不开，不沿用。The present signing keys do not open, and are left behind"
        return 0
    }
    said=$(restore_keys <(printf '%s' "$keys") --only-newer 2>&1) \
        || die "无法放置签名密钥。The signing keys cannot be put in place: $(last_line "$said")"
    say "$(last_line "$said")"
}
