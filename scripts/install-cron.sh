#!/usr/bin/env bash
# 安装定时备份与每周验证：/etc/cron.d/kadun-项目名；可重复运行，多套服务互不影响。
# Installs cron jobs that back up this stack every day and verify a backup every week: /etc/cron.d/kadun-PROJECT. A second run
# replaces them; stacks with other names have files of their own.
#
#   scripts/install-cron.sh [--backup-at 03:17] [--verify-at 04:47] [--verify-on sun] [--mail ADDRESS]
#   scripts/install-cron.sh --remove
#
#   --backup-at HH:MM   每天备份的时间 the time of the daily backup, in the machine's time zone
#   --verify-at HH:MM   验证的时间与星期 the time of the verification,
#   --verify-on DAY     and its day: sun, mon, tue, wed, thu, fri, sat; daily; or never
#   --mail ADDRESS      失败时发邮件到此地址 the address that cron mails failures to (root); needs a mail system
#   --remove            删除 removes the jobs
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/stack.sh"

# job HH:MM DAY COMMAND
job() { printf '%d %d * * %s root %s\n' "$((10#${1#*:}))" "$((10#${1%:*}))" "$2" "$3"; }

parse_options "remove backup-at= verify-at= verify-on= mail=" "$@"
at_most 0
backup_at=${OPTION[backup-at]:-03:17} verify_at=${OPTION[verify-at]:-04:47} day=${OPTION[verify-on]:-sun} mail=${OPTION[mail]:-}
check_option backup-at '([01][0-9]|2[0-3]):[0-5][0-9]' "HH:MM"
check_option verify-at '([01][0-9]|2[0-3]):[0-5][0-9]' "HH:MM"
check_option verify-on 'sun|mon|tue|wed|thu|fri|sat|daily|never' "sun, mon, … sat, daily 或 or never"
require_root
require_prepared
file=/etc/cron.d/kadun-$(setting COMPOSE_PROJECT_NAME kadun)
other=$(sed -n '2s/^# //p' "$file" 2>/dev/null) || other='' # a stack that was moved within the machine leaves its file behind
[[ -z $other || $other == "$ROOT" || ! -e $other/scripts/backup.sh ]] \
    || die "$file 属于 $other 的服务：两套服务须有不同的项目名。It belongs to $other: two stacks need two names"
if [[ -n ${OPTION[remove]:-} ]]; then
    rm -f "$file"
    say "已删除 removed: $file"
    exit
fi
require_stack
command -v cron >/dev/null || command -v crond >/dev/null || die "未安装 cron。cron is missing: apt-get install cron"

# cron does not know the shell's PATH and variables.
docker=$(command -v docker)
backup=$(quoted "$ROOT/scripts/backup.sh") backup=${backup//"%"/\\%} # of a % cron makes a line break
table="# Kadun 卡盾: scripts/install-cron.sh
# $ROOT
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${docker%/*}
MAILTO=${mail:-root}
$(job "$backup_at" '*' "$backup --quiet")"
if [[ $day != never ]]; then
    table+=$'\n'$(job "$verify_at" "${day/daily/'*'}" "$backup --verify --quiet")
fi
umask 022
printf '%s\n' "$table" >"$file.new" # cron ignores names with a dot
sync "$file.new"
mv -f "$file.new" "$file"
say "已安装 installed: $file"
grep ' root ' "$file"
