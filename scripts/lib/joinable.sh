# shellcheck shell=bash
# Whether another machine can serve beside this one, for scripts/export.sh --join. Sourced after archive.sh, never run.

LOCAL_FILE_SYSTEMS='ext2/ext3 xfs btrfs zfs f2fs jfs reiserfs bcachefs overlayfs tmpfs ramfs' # as stat calls them

# require_joinable: ends the script where it cannot.
require_joinable() {
    local hosts
    [[ $(keys_are_in) == database ]] \
        || die "KADUN_KEYS 须为 database：签名密钥现在只在本机的 data/keys。请执行 scripts/cardctl key store database，在 .env 中设置 KADUN_KEYS=database，再 docker compose up -d --wait。KADUN_KEYS must be database: the signing keys are in data/keys, on this machine alone. Run scripts/cardctl key store database, write KADUN_KEYS=database into .env, then docker compose up -d --wait"
    [[ -n $(setting KADUN_HOST) ]] \
        || die "KADUN_HOST 须为本机的名称：请执行 scripts/init.sh 写入，再 docker compose up -d --wait。KADUN_HOST must be this machine's name: run scripts/init.sh, which writes it, then docker compose up -d --wait"
    HOST_HERE=$(host_here) || exit 1
    hosts=${URL_BEFORE#*@} hosts=${hosts%/}
    [[ $hosts != database && $hosts != database:* ]] \
        || die "secrets/ 中的 URL 须指向容器以外的数据库：其他主机无法访问本机容器中的（docs/operations.zh-CN.md《从容器迁到您自己的 PostgreSQL》）。The URLs in secrets/ must name a database outside this stack's container, which no other machine reaches: docs/operations.md, 'From the container to a PostgreSQL of your own'"
    [[ ! ,$hosts =~ ,(127\.[0-9.]+|localhost|\[::1\])(:|,|$) ]] \
        || warn "数据库地址 $hosts 指向本机：在新主机上，同一地址须是同一个数据库。The database's address, $hosts, means this machine itself: on the new machine the same database must answer there"
    require_shared_files
}

# require_shared_files: no licensed file is on this machine's own disk.
require_shared_files() {
    local file
    [[ " $LOCAL_FILE_SYSTEMS " == *" $(stat --file-system --format=%T -- "$ROOT/data/files") "* ]] || return 0
    file=$(find "$ROOT/data/files" -maxdepth 1 -type f -regextype posix-egrep -regex '.*/[0-9a-f]{64}' -print -quit)
    [[ -n $file ]] || return 0
    [[ -z $(setting KADUN_FILES_BUCKET) ]] \
        || die "data/files 中还有未移入存储桶的授权文件：请执行 scripts/cardctl file move-to bucket。data/files still has licensed files that are not in the bucket: run scripts/cardctl file move-to bucket"
    die "data/files 中的授权文件只在本机磁盘上：请设置 KADUN_FILES_BUCKET 等，再执行 scripts/cardctl file move-to bucket；或把共享存储挂载到 data/files（docs/files-and-functions.zh-CN.md）。The licensed files in data/files are on this machine's own disk: set KADUN_FILES_BUCKET and run scripts/cardctl file move-to bucket, or mount shared storage at data/files, docs/files-and-functions.md"
}

# describe_join: what the manifest says beside the usual.
describe_join() {
    local schema hsts=no
    schema=$(schema_of "$LIVE") && [[ -n $schema ]] || die "数据库没有响应。The database does not answer"
    [[ ! -e $ROOT/https_certificates/hsts.conf ]] || hsts=yes
    # shellcheck disable=SC2034  # archive.sh's
    FACTS=(kind=join "schema=$schema" "host=$HOST_HERE" "hsts=$hsts")
}
