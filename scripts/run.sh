#!/usr/bin/env bash
# 试用：在本机启动卡盾与内嵌的 PostgreSQL，并演示一遍完整流程；按 Ctrl-C 停止。
# The trial service: Kadun with a PostgreSQL of its own, and a demonstration; serves until Ctrl-C.
#
#   scripts/run.sh
#
#   KADUN_PORT      端口 its port on 127.0.0.1 (8000)
#   KADUN_DATA_DIR  全部数据所在目录 the folder of all its state: .trial in the checkout, or for root
#                   one under /var/lib/kadun-trial
#   KADUN_PYTHON    所用 Python the Python 3.11 or newer to set up with
#
# scripts/cardctl 管理卡密，识别同样的变量。scripts/cardctl manages its cards and heeds the same variables.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/common.sh"
source "$ROOT/scripts/lib/python.sh"

parse_options "" "$@"
at_most 0
ensure_venv requirements.txt trial/requirements.txt
exec "$VENV_PYTHON" -P -m trial
