# shellcheck shell=bash
# Which backups stay. Sourced, never run; knows nothing of files.

# A backup's name, and nothing that a person might have put beside it: the time is UTC's.
readonly BACKUP_NAME='^kadun-([0-9]{8})T[0-9]{6}Z\.dump(\.age)?$'

# surplus DAILY WEEKLY MONTHLY: of the names on standard input prints those that may go. For each of the last so many
# days, weeks (ISO 8601) and months that have a backup the newest of it stays, and the newest three of all whatever the
# numbers. Periods without backups do not count: when backups stop, nothing is thrown away.
surplus() {
    local daily=$1 weekly=$2 monthly=$3 name day week month stays newest=3 last_day='' last_week='' last_month=''
    while read -r name; do
        [[ $name =~ $BACKUP_NAME ]] || continue
        day=${BASH_REMATCH[1]}
        # A name such as kadun-20261399… is no backup's: left alone.
        week=$(date --utc --date="$day" +%G-%V 2>/dev/null) || continue
        month=${day:0:6} stays=false
        if ((newest > 0)); then
            newest=$((newest - 1)) stays=true
        fi
        if ((daily > 0)) && [[ $day != "$last_day" ]]; then
            daily=$((daily - 1)) last_day=$day stays=true
        fi
        if ((weekly > 0)) && [[ $week != "$last_week" ]]; then
            weekly=$((weekly - 1)) last_week=$week stays=true
        fi
        if ((monthly > 0)) && [[ $month != "$last_month" ]]; then
            monthly=$((monthly - 1)) last_month=$month stays=true
        fi
        $stays || printf '%s\n' "$name"
    done < <(LC_ALL=C sort --reverse --unique)
}
