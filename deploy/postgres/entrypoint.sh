#!/usr/bin/env bash
# The entry point of service `database`, before the image's own, which continues as user postgres. Copies the secrets that
# this user needs: on the host they belong to other users.
set -euo pipefail

# Two databases over one folder destroy it, and in containers neither sees the other. Every process here inherits the lock, and
# none outlives the container. The project's name is in the command: docker-compose.yml. The wait is for one that is stopping.
exec 9<"$PGDATA"
status=0
flock --wait 5 9 || status=$?
if ((status == 1)); then # flock's status of a lock that somebody else holds
    holder=$(sed -n 's/.*"cluster_name=\([^"]*\)".*/\1/p' "$PGDATA/postmaster.opts" 2>/dev/null) || holder=''
    echo "项目 ${holder:-?} 的数据库正在使用此数据目录（data/postgres），两个数据库会毁掉数据，因此不启动。请把 .env 中的 COMPOSE_PROJECT_NAME 改为 ${holder:-该项目}；或者，若确要换成本项目，先执行 docker compose -p ${holder:-该项目} down。The database of project ${holder:-?} runs over this folder (data/postgres); two would destroy the data, so this one does not start. Set COMPOSE_PROJECT_NAME=${holder:-that project} in .env; or, if you mean to use this project from now on, run docker compose -p ${holder:-PROJECT} down first" >&2
    exit 1
elif ((status != 0)); then
    echo "data/postgres 所在的文件系统无法加锁（flock 的状态 $status），因此不启动：请把该目录移到本机磁盘。The file system of data/postgres cannot lock (flock's status $status), so the database does not start: move the folder to a local disk" >&2
    exit 1
fi

# The image would take the remains of an interrupted first start for a whole cluster. The mark exists from before initdb
# (the script beside this one) until the roles are made (init/10-roles.sh), while nobody can connect.
if [[ -d $PGDATA/.first-start ]]; then
    echo "the first start was interrupted: starting over" >&2
    find "$PGDATA" -mindepth 1 ! -path "$PGDATA/.first-start" -delete # the mark goes last
    rmdir "$PGDATA/.first-start"
fi

folder=/run/postgresql/.secrets
install -d -o postgres -m 700 "$folder"
install -o postgres -m 400 /run/secrets/db_password "$folder"
if [[ ! -s $PGDATA/PG_VERSION ]]; then # the roles are made once
    install -o postgres -m 400 /run/secrets/{owner,backup,database}_url "$folder"
    export PATH=/usr/local/lib/kadun:$PATH # the initdb there
fi
exec docker-entrypoint.sh "$@"
