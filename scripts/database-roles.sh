#!/usr/bin/env bash
# 输出建立数据库角色的 SQL（含密码），供 PostgreSQL 管理员执行；可重复执行。
# Prints the SQL that creates Kadun's roles and database in a PostgreSQL of your own, with the passwords in secrets/. Its
# administrator runs it in psql, as often as needed.
#
#   scripts/database-roles.sh | sudo -u postgres psql                   PostgreSQL 在本机 on this machine
#   scripts/database-roles.sh | ssh HOST sudo -u postgres psql          在另一台 on another
#   scripts/database-roles.sh | psql 'host=… user=admin dbname=postgres'   云数据库 a cloud's
#
# 先执行 scripts/init.sh --database-host HOST。First: scripts/init.sh --database-host HOST.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/common.sh"
source "$ROOT/deploy/postgres/url.sh"

parse_options '' "$@"
at_most 0
[[ ! -t 1 ]] || die "输出含密码，请接管道交给 psql。The output holds passwords: pipe it into psql, see --help"
variables=$(role_variables "$ROOT/secrets") \
    || die "无法读取 secrets/ 中的 URL：请先执行 scripts/init.sh。Cannot read the URLs in secrets/: run scripts/init.sh first; they must be postgresql://USER:PASSWORD@HOST/NAME, readable by you"
printf '%s\n' "$variables"
cat "$ROOT/deploy/postgres/roles.sql"
