# shellcheck shell=bash
# Changes single settings in .env, and takes those of another server over. Sourced after dotenv.sh, never run.

# What belongs to a machine, and stays what it is there.
MACHINE_SETTINGS=(COMPOSE_PROJECT_NAME COMPOSE_FILE KADUN_HTTP_PORT KADUN_HTTPS_PORT KADUN_UID KADUN_APP_IMAGE)
# Where things come from and go to: taken over too when the new machine has said nothing yet.
PLACE_SETTINGS=(KADUN_PYTHON_IMAGE KADUN_POSTGRES_IMAGE KADUN_NGINX_IMAGE PIP_INDEX_URL KADUN_BACKUP_DIR KADUN_BACKUP_HOOKS
    KADUN_DB_MEMORY KADUN_DB_SHARED_BUFFERS KADUN_FUNCTIONS_MEMORY KADUN_DOCTOR_PORTS)

# set_setting FILE NAME VALUE: in the line that has it, set or commented out; else at the end. Whole or not at all.
set_setting() {
    local file=$1 new=$1.new
    NAME=$2 VALUE=$3 awk '
        BEGIN { name = ENVIRON["NAME"] "="; line = name ENVIRON["VALUE"] }
        index($0, name) == 1                    { if (!done) print line; done = 1; next }
        !done && index($0, "#" name) == 1       { print line; done = 1; next }
                                                { print }
        END                                     { if (!done) print line }
    ' "$file" >"$new"
    chmod --reference="$file" "$new"
    if [[ $EUID == 0 ]]; then chown --reference="$file" "$new"; fi
    sync -- "$new"
    mv -fT -- "$new" "$file"
}

# take_settings ENV FILE FRESH: what ENV, another server's, sets goes into FILE, but for what is a machine's own; where
# FILE is not fresh, what it says of places stays too. Prints the names of what came over.
take_settings() {
    local from=$1 to=$2 line name value
    local -a keep=("${MACHINE_SETTINGS[@]}")
    [[ -n $3 ]] || keep+=("${PLACE_SETTINGS[@]}")
    local -A taken=()
    while IFS= read -r line || [[ -n $line ]]; do
        [[ $line =~ ^([A-Za-z_][A-Za-z0-9_]*)= ]] || continue
        name=${BASH_REMATCH[1]}
        if [[ " ${keep[*]} " != *" $name "* ]]; then taken[$name]=1; fi
    done <"$from"
    # Clients check it: where the old server left it at its default, so must the new one.
    if [[ -n $(dotenv_value "$to" KADUN_ISSUER) ]]; then taken[KADUN_ISSUER]=1; fi
    for name in "${!taken[@]}"; do
        value=$(dotenv_value "$from" "$name")
        [[ $name != KADUN_ISSUER || -n $value ]] || value=kadun
        [[ $value == "$(dotenv_value "$to" "$name")" ]] && continue
        # In its quotes, if it has any; those of a default are ours.
        if [[ $value == "$(dotenv_value "$from" "$name")" ]]; then value=$(dotenv_text "$from" "$name"); fi
        set_setting "$to" "$name" "${value%$'\r'}"
        printf '%s\n' "$name"
    done | sort
}
