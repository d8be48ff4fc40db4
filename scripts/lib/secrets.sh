# shellcheck shell=bash
# Makes the secrets, whose URLs say where the database is. For scripts/init.sh. Sourced, never run.

readonly CONTAINER=database:5432 EXTERNAL_FILES=docker-compose.yml:docker-compose.external-database.yml
DATABASE_HOSTS=$CONTAINER

# check_hosts HOSTS: as in a URL, with IPv6 addresses in brackets.
check_hosts() {
    local host='(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[1-9][0-9]{0,4})?'
    [[ $1 =~ ^$host(,$host)*$ && $1 != database && $1 != database:* ]] \
        || usage_error "不是 HOST[:PORT][,HOST[:PORT]…]。Not HOST[:PORT][,HOST[:PORT]…]: $1"
}

# check_database: existing secrets decide where the database is; a new password would not fit an existing database.
check_database() {
    local name there=''
    if [[ -e secrets/owner_url ]]; then there=$(sed 's|.*@||; s|/.*||' secrets/owner_url); fi
    if [[ -n $there && $DATABASE_HOSTS != "$CONTAINER" && $there != "$DATABASE_HOSTS" ]]; then
        die "secrets/ 已存在且数据库在 $there，请直接修改其中三个 URL。secrets/ exists and says that the database is at $there: edit the three URLs there"
    fi
    DATABASE_HOSTS=${there:-$DATABASE_HOSTS}
    check_compose_file
    if has_cluster; then
        for name in $(secret_names); do
            [[ -e secrets/$name ]] || die "data/postgres 已有数据库，但缺少 secrets/$name：请从备份恢复，不会另行生成。data/postgres already holds a database, but secrets/$name is missing: put it back from a backup; a new one would not fit"
        done
    fi
}

# check_compose_file: COMPOSE_FILE in .env must agree with the secrets about where the database is.
check_compose_file() {
    local files in_files=no in_secrets=no
    [[ -e .env ]] || return 0
    files=$(env_file get .env COMPOSE_FILE)
    if [[ $files == *external-database* ]]; then in_files=yes; fi
    if is_external; then in_secrets=yes; fi
    case $in_files$in_secrets in
        yesno)
            [[ -e secrets/owner_url ]] \
                || die "缺少 secrets/owner_url：请从备份恢复。secrets/owner_url is missing: put it back from a backup, or remove COMPOSE_FILE from .env"
            die "secrets/ 用容器中的数据库：请删除 .env 中的 COMPOSE_FILE。secrets/ says that the database is in its container: remove COMPOSE_FILE from .env" ;;
        noyes)
            die "secrets/ 的数据库在 $DATABASE_HOSTS：请修改 .env。secrets/ says that the database is at $DATABASE_HOSTS: add this to .env: COMPOSE_FILE=$EXTERNAL_FILES" ;;
    esac
}

is_external() {
    [[ $DATABASE_HOSTS != "$CONTAINER" ]]
}

# secret_names: the administrator's password exists for the database in its container only.
secret_names() {
    is_external || echo db_password
    printf '%s\n' owner_url backup_url database_url kernal_data_key
}

# has_cluster: once PostgreSQL has run, the folder is closed to others or holds its files.
has_cluster() {
    [[ -d data/postgres ]] || return 1
    [[ ! -r data/postgres || ! -x data/postgres || -n $(ls -A data/postgres) ]]
}

make_secrets() {
    is_external || [[ -e secrets/db_password ]] || place secrets/db_password 600 0 new_password
    [[ -e secrets/owner_url ]] || place secrets/owner_url 600 "$APP_UID" new_url kadun_owner
    [[ -e secrets/backup_url ]] || place secrets/backup_url 600 "$APP_UID" new_url kadun_backup
    [[ -e secrets/database_url ]] || place secrets/database_url 600 "$APP_UID" new_url kadun_app
    [[ -e secrets/kernal_data_key ]] || place secrets/kernal_data_key 600 "$APP_UID" age_identity
    [[ -e secrets/sealing_key ]] || place secrets/sealing_key 600 "$APP_UID" openssl rand -hex 32 # an upgrade makes it, too
    [[ -e secrets/keys_identity ]] || place secrets/keys_identity 600 "$APP_UID" age_identity # likewise
    # An upgrade makes this one, too. A vendor with a recipient of their own, or backups in clear, needs none.
    [[ -e secrets/backup_identity || -n $(env_file get "$DOTENV" KADUN_BACKUP_RECIPIENT) ]] \
        || place secrets/backup_identity 600 0 age_identity
}

# age_identity: a new private key in age's format, without age-keygen's comments.
age_identity() {
    age-keygen 2>/dev/null | grep '^AGE-SECRET-KEY-1'
}

new_password() {
    openssl rand -hex 24
}

# new_url ROLE: a URL with a new password, which postgres/roles.sql gives to the role.
new_url() {
    local password settings=''
    password=$(new_password) && [[ -n $password ]] || return 1
    if is_external; then
        # Channel binding: TLS alone would give the password to whoever answers in the database's place.
        [[ ,$DATABASE_HOSTS =~ ^(,(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?)+$ ]] \
            || settings+='&sslmode=require&channel_binding=require'
        [[ $DATABASE_HOSTS != *,* ]] || settings+='&target_session_attrs=read-write' # whichever host is the primary
    fi
    printf 'postgresql://%s:%s@%s/kadun%s\n' "$1" "$password" "$DATABASE_HOSTS" "${settings/#&/?}"
}
