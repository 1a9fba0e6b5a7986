#!/bin/sh
# Completes the root file system of an image: what the programs and libraries in it load, as the system here has it, and the
# few files of a system that they look for. It can be run again when something was added.
set -eu
root=$1

# Libraries are found at the places that the loader has here, which may be links to others.
for folder in bin lib lib64 sbin; do
    if [ -L "/$folder" ] && [ ! -e "$root/$folder" ]; then
        mkdir -p "$root/$(readlink -f "/$folder")"
        ln -s "$(readlink "/$folder")" "$root/$folder"
    fi
done

# Puts a file there with its name, and notes which package it is of, as scanners of images read it (status.d).
take() {
    mkdir -p "$root$(dirname "$1")"
    cp -Lp "$1" "$root$1"
    package=
    for name in "$1" "$(readlink -f "$1")" "/usr$1"; do
        # Of a file that packages share it says more than one line, and of a diverted one who diverts it.
        package=$(dpkg-query --search "$name" 2>/dev/null | grep --invert-match '^diversion' | head -n 1 | sed 's/[:,].*//')
        [ -z "$package" ] || break
    done
    [ -n "$package" ] || return 0
    note "$package"
}

# Writes down that the image has something of a package, with its licence.
note() {
    mkdir -p "$root/var/lib/dpkg/status.d" "$root/usr/share/doc/$1"
    dpkg-query --status "$1" > "$root/var/lib/dpkg/status.d/$1"
    [ ! -f "/usr/share/doc/$1/copyright" ] || cp -L "/usr/share/doc/$1/copyright" "$root/usr/share/doc/$1/"
}

find "$root/usr/local" -type f | while read -r file; do
    # A line is `NAME => PATH (ADDRESS)`, or the loader's own path; what is not found is a mistake.
    libraries=$(ldd "$file" 2>/dev/null) || continue
    case $libraries in *"not found"*) echo "$file: $libraries" >&2 && exit 1 ;; esac
    echo "$libraries" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p' | while read -r library; do
        take "$library"
    done
done

take /etc/ssl/certs/ca-certificates.crt
take /usr/lib/os-release
mkdir -p "$root/etc" "$root/tmp" "$root/var/lib/vespid"
ln -sf ../usr/lib/os-release "$root/etc/os-release"
# Made at its installation, so that no package says that it is its own.
note ca-certificates
echo 'root:x:0:0:root:/root:/sbin/nologin
nonroot:x:65532:65532:nonroot:/var/lib/vespid:/sbin/nologin' > "$root/etc/passwd"
echo 'root:x:0:
nonroot:x:65532:' > "$root/etc/group"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"
chown 65532:65532 "$root/var/lib/vespid"
