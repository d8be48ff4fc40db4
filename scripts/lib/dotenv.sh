# shellcheck shell=bash
# Reads .env without running it. Sourced, never run.

# dotenv_text FILE NAME: what stands behind NAME= in FILE, as it is written there, or nothing.
dotenv_text() {
    sed -nE "s/^[[:space:]]*(export[[:space:]]+)?$2[[:space:]]*=[[:space:]]*//p" "$1" | tail -n 1
}

# dotenv_value FILE NAME: the value of NAME in FILE, or nothing: as Compose reads it, without the quotes around it, a
# comment behind it or the end of a line that Windows writes. What Compose makes of \ and $ stays as it is written.
dotenv_value() {
    local text
    text=$(dotenv_text "$1" "$2")
    case $text in
        \"*\"*) text=${text#\"} text=${text%%\"*} ;;
        \'*\'*) text=${text#\'} text=${text%%\'*} ;;
        *) text=${text%% #*} text=${text%"${text##*[![:space:]]}"} ;;
    esac
    printf '%s' "$text"
}
