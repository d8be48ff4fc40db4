"""`python -m kadun.hostile`: moved to the package `kadun_conformance`; says so and exits 2."""

import sys

if __name__ == "__main__":
    sys.stderr.write(
        "本命令已移至独立的软件包：pip install ./conformance，然后运行 python -m kadun_conformance\n"
        "This command has moved to its own package: pip install ./conformance, then python -m kadun_conformance\n"
    )
    sys.exit(2)
