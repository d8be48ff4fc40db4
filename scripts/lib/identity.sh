# shellcheck shell=bash
# Makes age identities with nothing but bash: a fresh host has neither age nor, for sure, Python.
# An age identity is 32 random bytes (an X25519 key) in Bech32, upper case (C2SP age; BIP-173). Sourced, never run.

BECH32_ALPHABET=qpzry9x8gf2tvdw0s3jn54khce6mua7l

# bech32_polymod VALUE…: the checksum of BIP-173 over values of 5 bits.
bech32_polymod() {
    local -a generator=(0x3b6a57b2 0x26508e6d 0x1ea119fa 0x3d4233dd 0x2a1462b3)
    local checksum=1 value top i
    for value in "$@"; do
        top=$((checksum >> 25))
        checksum=$(((checksum & 0x1ffffff) << 5 ^ value))
        for i in {0..4}; do
            if ((top >> i & 1)); then checksum=$((checksum ^ generator[i])); fi
        done
    done
    printf '%s' "$checksum"
}

# bech32 PREFIX HEX: the bytes of HEX under PREFIX (lower case), in lower case.
bech32() {
    local prefix=$1 hex=$2 bits=0 held=0 checksum i text=
    local -a high=() low=() data=()
    for ((i = 0; i < ${#prefix}; i++)); do
        printf -v held '%d' "'${prefix:i:1}"
        high+=($((held >> 5))) low+=($((held & 31)))
    done
    held=0
    for ((i = 0; i < ${#hex}; i += 2)); do # eight bits in, five bits out
        held=$((held << 8 | 16#${hex:i:2})) bits=$((bits + 8))
        while ((bits >= 5)); do
            bits=$((bits - 5))
            data+=($((held >> bits & 31)))
        done
        held=$((held & 31))
    done
    if ((bits > 0)); then data+=($((held << (5 - bits) & 31))); fi
    checksum=$(($(bech32_polymod "${high[@]}" 0 "${low[@]}" "${data[@]}" 0 0 0 0 0 0) ^ 1))
    for i in 25 20 15 10 5 0; do data+=($((checksum >> i & 31))); done
    for i in "${data[@]}"; do text+=${BECH32_ALPHABET:i:1}; done
    printf '%s1%s' "$prefix" "$text"
}

# identity_from_hex HEX: the identity whose 32 bytes are these 64 hexadecimal digits.
identity_from_hex() {
    local text
    text=$(bech32 age-secret-key- "$1")
    printf '%s\n' "${text^^}"
}

# new_identity: a fresh one, from the kernel's randomness.
new_identity() {
    local hex
    hex=$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')
    [[ ${#hex} == 64 ]] || return 1
    identity_from_hex "$hex"
}
