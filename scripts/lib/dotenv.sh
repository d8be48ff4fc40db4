# shellcheck shell=bash
# Reads .env without running it. Sourced, never run.

# dotenv_value FILE NAME: the value of NAME in FILE, or nothing.
dotenv_value() {
    sed -n "s/^$2=//p" "$1" | tail -n 1
}
