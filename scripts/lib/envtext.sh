# shellcheck shell=bash
# The text of .env as scripts/init.sh makes it. Needs its variables and functions. Sourced, never run.

# env_text: every setting that a vendor may want, with its default where it is left out.
env_text() {
    local project=${chosen[COMPOSE_PROJECT_NAME]:-kadun} files='' index=''
    if [[ -r data/pip-index-url ]]; then index=$(<data/pip-index-url); fi # scripts/provision.sh --mirror-pip
    if is_external; then files=$'\n'COMPOSE_FILE=$EXTERNAL_FILES; fi
    cat <<END
# 由 scripts/init.sh 生成；修改后执行 docker compose up -d --wait 生效。此处不放任何密码。
# Made by scripts/init.sh; after an edit run: docker compose up -d --wait. No secret belongs here.

COMPOSE_PROJECT_NAME=$project$files
KADUN_HTTP_PORT=${chosen[KADUN_HTTP_PORT]:-80}
KADUN_HTTPS_PORT=${chosen[KADUN_HTTPS_PORT]:-443}
# cardctl doctor 核对证书是否含这些名称；KADUN_DOCTOR_PORTS 为您有意开放的其他端口（如 8888 51820/udp）。
# cardctl doctor checks that the certificate names these, and lets the other ports pass that you mean to be open.
KADUN_DOMAIN=${domains[*]-}
#KADUN_DOCTOR_PORTS=

# 容器内运行服务的用户，须能读取 secrets/ 与 data/keys。
# The service's user inside; secrets/ and data/keys are this user's.
KADUN_UID=$APP_UID

# 镜像与 Python 包的来源，国内可换成镜像站；PIP_INDEX_URL 留空为默认。
# Where images and Python packages come from; an empty PIP_INDEX_URL is pip's default.
KADUN_APP_IMAGE=$project-app
KADUN_PYTHON_IMAGE=python:3.13-slim-trixie
KADUN_POSTGRES_IMAGE=postgres:17-trixie
KADUN_NGINX_IMAGE=nginx:1.28-trixie
PIP_INDEX_URL=$index

# 每个客户地址每秒的请求数与突发数。Requests a second from one address, and how many more at once.
KADUN_RATE=10
KADUN_BURST=40
# 谁可以打开管理后台 /admin：IP 地址与网段，以空格或逗号分隔；留空为任何人（登录仍需密码）。写错时 nginx 不会启动。
# Who may open the console at /admin: addresses and networks, separated by spaces or commas; empty: everybody (who then
# still wants a password). nginx does not start with a wrong one.
KADUN_ADMIN_ALLOW=
# HSTS 响应头，只在证书受公众信任时发送；留空则不发送。改后运行下面的命令。
# The Strict-Transport-Security header, sent behind a publicly trusted certificate only; empty: never. After a change
# run scripts/deploy-certificate.sh https_certificates/fullchain.pem https_certificates/privkey.pem
KADUN_HSTS=max-age=63072000

# 服务的设置，此处为默认值；KADUN_OFFLINE_GRACE（如 12h）默认不允许离线启动。
# The service's settings with their defaults; KADUN_OFFLINE_GRACE, such as 12h, allows offline starts.
#KADUN_ISSUER=kadun
#KADUN_REQUIRE_SEALED=false
#KADUN_OFFLINE_GRACE=
#KADUN_TIMEZONE=Asia/Shanghai
#KADUN_JOURNAL_KEEP_DAYS=365
#KADUN_LOG_LEVEL=info
#KADUN_WORKERS=2
#KADUN_THREADS=8

# 核心功能（data/functions），此处为默认值：每次调用的秒数与内存、同时调用数、结果大小、容器的内存上限与网络
# （none 无网络，bridge 可上网）。最多一半的服务线程等待功能（KADUN_WORKERS × KADUN_THREADS / 2），
# 同时调用数要更多时须同时调大 KADUN_THREADS。
# Core functions with their defaults: seconds and memory of a call, calls at once, size of a result, then memory and
# network of their container; KADUN_FUNCTIONS_NETWORK=bridge lets them out to the internet. At most half of the service's
# threads wait for functions (KADUN_WORKERS x KADUN_THREADS / 2): more calls at once want more KADUN_THREADS.
#KADUN_FUNCTION_SECONDS=30
#KADUN_FUNCTION_MEMORY_MB=192
#KADUN_FUNCTION_CONCURRENCY=4
#KADUN_FUNCTION_RESULT_KB=256
#KADUN_FUNCTIONS_MEMORY=256m
#KADUN_FUNCTIONS_NETWORK=none

# 数据库容器的内存上限与缓冲区：2 GB 以上内存可改为 1g 与 256MB。
# The database container's memory and buffers; with 2 GB of memory or more: 1g and 256MB.
#KADUN_DB_MEMORY=416m
#KADUN_DB_SHARED_BUFFERS=128MB

# 备份（scripts/backup.sh --help），此处为默认值；设置 RECIPIENT（age1…）后备份将加密，升级与恢复前的导出在成功后也会加密。含密钥的通知地址请写入 secrets/backup_webhook。
# Backups (scripts/backup.sh --help) with their defaults; with a RECIPIENT (age1…) they are encrypted, and so are,
# after success, the dumps from before an upgrade or a restore. A webhook's address that is secret belongs into
# secrets/backup_webhook instead.
#KADUN_BACKUP_DIR=./data/backups
#KADUN_BACKUP_KEEP_DAILY=7
#KADUN_BACKUP_KEEP_WEEKLY=5
#KADUN_BACKUP_KEEP_MONTHLY=12
#KADUN_BACKUP_RECIPIENT=
#KADUN_BACKUP_HOOKS=./data/backup-hooks.d
#KADUN_BACKUP_HOOK_SECONDS=3600
#KADUN_BACKUP_WEBHOOK=
END
}
