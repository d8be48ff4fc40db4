# shellcheck shell=bash
# Whom backups are encrypted to, and what decrypts them on this machine. Sourced after stack.sh and backups.sh, never run.

IDENTITY=''  # the file of --identity, or else set by require_backup
RECIPIENT='' # set by find_recipient
OWN_IDENTITY=$ROOT/secrets/backup_identity # scripts/init.sh makes it
NO_MATCH='no identity matched' # what age says of a file that is encrypted to others

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

# require_backup FILE [checksum]: the file exists, is not empty and matches the checksum beside it. For an encrypted one,
# IDENTITY is then that of --identity, else the identity here, which decrypts it. With `checksum` it is empty instead where
# backups are encrypted to a recipient of the vendor's own.
require_backup() {
    local said
    [[ ! -L $1 ]] || die "$1 是链接，请指定文件本身 is a link: name the file itself"
    [[ -e $1 ]] || die "没有此文件，请核对文件名。There is no such file: $1"
    [[ -f $1 && -r $1 && -s $1 ]] || die "$1 无法读取或为空 cannot be read or is empty"
    [[ ! -e $1.sha256 ]] || verify_checksum "$1"
    [[ $1 == *.age ]] || return 0
    need age age
    [[ -z $IDENTITY || -r $IDENTITY ]] || die "无法读取私钥文件。The identity cannot be read: $IDENTITY"
    [[ -z $IDENTITY ]] || return 0
    IDENTITY=$OWN_IDENTITY
    said=$({ open_archive "$1" | head -c 1 | wc -c; } 2>&1) || true # one byte shows that it decrypts
    if grep -qx 1 <<<"$said"; then return; fi
    [[ -n ${2:-} && -n $(setting KADUN_BACKUP_RECIPIENT) && (! -e $IDENTITY || $said == *"$NO_MATCH"*) ]] \
        || refuse_backup "$1" "$said"
    IDENTITY=''
}

# refuse_backup FILE SAID: ends the script with what age, or a program behind it, says of the file.
refuse_backup() {
    case $2 in
        *"$NO_MATCH"*) die "$1 已加密，$IDENTITY 打不开它：请放回原来的私钥，或用 --identity 指定。It is encrypted, and $IDENTITY does not decrypt it: put the former identity back, or name it with --identity FILE" ;;
        *"reading \"$IDENTITY\""*) die "私钥无法读取：请放回您的副本，或用 --identity 指定。The identity cannot be read: put your copy back, or name it with --identity FILE: $(error_line "$2")" ;;
        *) die "$1 已损坏，请换一份备份。It is damaged: take another backup: $(error_line "$2")" ;;
    esac
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
