# shellcheck shell=bash
# Whom backups are encrypted to, and what decrypts them on this machine. Sourced after stack.sh and backups.sh, never run.

IDENTITY=''  # the file of --identity, or else set by choose_identity
RECIPIENT='' # set by find_recipient
OWN_IDENTITY=$ROOT/secrets/backup_identity # scripts/init.sh makes it

# find_recipient: sets RECIPIENT to KADUN_BACKUP_RECIPIENT, by default to that of the identity here. It is empty where the
# setting is `none`: backups are in clear.
find_recipient() {
    RECIPIENT=$(setting KADUN_BACKUP_RECIPIENT)
    if [[ $RECIPIENT == none ]]; then RECIPIENT='' && return; fi
    need age age
    [[ -z $RECIPIENT ]] || return 0
    [[ -e $OWN_IDENTITY ]] \
        || die "缺少 secrets/backup_identity：请放回您的副本；若已丢失，scripts/init.sh 会新建。secrets/backup_identity is missing: put your copy back; if it is lost, scripts/init.sh makes a new one"
    RECIPIENT=$(age-keygen -y "$OWN_IDENTITY" 2>/dev/null) || RECIPIENT=''
    RECIPIENT=${RECIPIENT%%$'\n'*} # of several identities the first
    [[ -n $RECIPIENT ]] \
        || die "无法读取，或不是 age 私钥。It cannot be read, or is not an age identity: $OWN_IDENTITY"
}

# find_safety_recipient: sets RECIPIENT for an archive that must be restored here, perhaps unattended. It is empty where the
# recipient is the vendor's own: encrypt_archive encrypts such an archive once it is not needed any more.
find_safety_recipient() {
    find_recipient
    [[ -z $(setting KADUN_BACKUP_RECIPIENT) ]] || RECIPIENT=''
}

# choose_identity FILE: without --identity, sets IDENTITY to the identity here if it decrypts the file.
choose_identity() {
    [[ -z $IDENTITY && $1 == *.age && -e $OWN_IDENTITY ]] || return 0
    need age age
    # One byte will do: age ends at once where no identity matches.
    if [[ -n $({ read_file "$1" | age --decrypt --identity "$OWN_IDENTITY"; } 2>/dev/null | head -c 1 | tr '\0' x) ]]; then
        IDENTITY=$OWN_IDENTITY
    fi
}

# is_copied: the vendor needs no other copy of the identity here, or has confirmed one.
is_copied() {
    [[ -n $(setting KADUN_BACKUP_RECIPIENT) || ! -e $OWN_IDENTITY ]] \
        || grep -qs " $(sha256_of "$OWN_IDENTITY")\$" "$BACKUP_FOLDER/identity-copied"
}

# confirm_copy DIGEST: notes that a copy of the identity with this SHA-256 exists elsewhere, for doctor and is_copied.
confirm_copy() {
    local digest
    digest=$(sha256_of "$OWN_IDENTITY" 2>/dev/null) && [[ -n $digest ]] || die "无法读取 cannot read $OWN_IDENTITY"
    [[ ${1,,} == "$digest" ]] \
        || die "副本与本机的 secrets/backup_identity 不一致：请重新复制。The copy differs from secrets/backup_identity here: copy it again"
    note identity-copied "$digest"
    say "已确认副本。The copy is confirmed"
}
