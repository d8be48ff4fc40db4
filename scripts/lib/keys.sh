# shellcheck shell=bash
# The signing keys as the host's scripts need them, in data/keys or in the database (KADUN_KEYS). Sourced, never run.

# shellcheck source=scripts/lib/database.sh
source "$ROOT/scripts/lib/database.sh"

KEYRING=$ROOT/data/keys/keyring.json

# keys_are_in: folder or database.
keys_are_in() { setting KADUN_KEYS folder; }

# use_keyring: where the signing keys are in the database, KEYRING becomes a copy of them in a file without a name, which only
# this script and what it starts can open. If they cannot be read, it is empty.
use_keyring() {
    local file held said
    [[ $(keys_are_in) == database && $KEYRING == "$ROOT"/* ]] || return 0
    need age age
    need_live
    { file=$(mktemp "$ROOT/data/.keys.XXXXXX") && exec {held}<>"$file" && rm -f -- "$file"; } \
        || die "无法写入 cannot write to $ROOT/data"
    KEYRING=/proc/$$/fd/$held
    if ((${#TRUST[@]})); then TRUST[1]=$KEYRING; fi
    if ! said=$({ sealed_keys "$LIVE" | unseal_keys >&"$held"; } 2>&1); then
        warn "数据库中的签名密钥无法读取。The signing keys in the database cannot be read: $(last_line "$said")"
    fi
}

# sealed_keys DATABASE: the signing keys in it, if there are any. Fails where it does not answer.
sealed_keys() {
    local found
    found=$(owner_sql "$1" "SELECT to_regclass('public.key_ring') IS NOT NULL") || return 1
    [[ $found != t ]] || owner_sql "$1" "SELECT sealed FROM key_ring WHERE replaced_at IS NULL"
}

unseal_keys() { age --decrypt --identity "$ROOT/secrets/keys_identity"; }

# carry_keys FROM: where the signing keys are in the database, those of database FROM go on if they continue those of the live
# one, or if it has none: clients refuse keys older than those that they have seen.
carry_keys() {
    local sealed keys said
    [[ $(keys_are_in) == database ]] || return 0
    sealed=$(sealed_keys "$1") || die "无法读取数据库中的签名密钥。The signing keys in the database cannot be read"
    [[ -n $sealed ]] || return 0
    if ! keys=$(unseal_keys <<<"$sealed" 2>/dev/null); then # as where another identity was put back since a first start
        warn "现有的签名密钥打不开，不沿用。The present signing keys do not open, and are left behind"
        return 0
    fi
    said=$(restore_keys <(printf '%s' "$keys") --only-newer 2>&1) \
        || die "无法放置签名密钥。The signing keys cannot be put in place: $(last_line "$said")"
    say "$(last_line "$said")"
}

# migrate_and_carry_keys FROM: likewise, into a live database whose schema may be older than the table of the keys.
migrate_and_carry_keys() {
    local said
    [[ $(keys_are_in) == database ]] || return 0
    said=$(compose run --rm -T migrate 2>&1 </dev/null) || die "数据库升级失败。The migration failed: $(last_line "$said")"
    carry_keys "$1"
}
