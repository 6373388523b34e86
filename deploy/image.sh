#!/usr/bin/env bash
# Builds the image for real without a registry: deploy/image.sh FOLDER
# FOLDER gets its layers in `image`, and buildah's storage with the image `exporter` in `store`.
# The base is a Debian with Python that debootstrap makes once and keeps in .tools. Needs root, buildah and debootstrap; ends
# with 77 where they, or Debian's packages, are missing. For use, build with `docker build`: deploy/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?usage: deploy/image.sh FOLDER}
root=$PWD/.tools/base
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' exporter/__init__.py)

for program in buildah debootstrap; do
    command -v "$program" >/dev/null || { echo "$program is not there" >&2; exit 77; }
done
[[ $EUID = 0 ]] || { echo "only root can make a base" >&2; exit 77; }

mkdir -p .tools
exec 9> "$root.lock"
flock 9
if [[ ! -e $root ]]; then
    rm -rf "$root.new"
    mkdir "$root.new"
    timeout 300 debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates trixie "$root.new" >&2 ||
        { rm -rf "$root.new"; echo "Debian's packages are out of reach" >&2; exit 77; }
    # As the official images name it, and with the authorities of this machine, for a network with one of its own.
    ln -s python3 "$root.new/usr/bin/python"
    cp /etc/ssl/certs/ca-certificates.crt "$root.new/etc/ssl/certs/"
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > "$root.new/etc/pip.conf"
    rm -rf "$root.new"/var/cache/apt/archives/*.deb "$root.new"/var/lib/apt/lists/*
    mv "$root.new" "$root"
fi
flock --unlock 9

# Nothing of the build stays on the machine, except in the folder.
buildah() { command buildah --root "$folder/store/root" --runroot "$folder/store/run" --storage-driver overlay "$@"; }

base=$(buildah from scratch)
buildah add --quiet "$base" "$root" / >/dev/null
buildah commit --quiet "$base" base >/dev/null
buildah rm "$base" >/dev/null
buildah build --quiet --format docker --isolation chroot --network host --build-arg PYTHON_IMAGE=localhost/base \
    --build-arg VERSION="$version" --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --tag exporter --file deploy/Dockerfile . >&2
buildah push --quiet exporter "dir:$folder/image" >&2
# Where the root file system of a container is mounted.
buildah mount "$(buildah from exporter)"
