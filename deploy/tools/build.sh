#!/usr/bin/env bash
# Put one pinned tool into .tools/bin: build.sh opa|buf|grpcurl|ledgercheck
# Each has a Go module of its own here, since their requirements clash. An opa of the pinned minor version on PATH is used as it is.
set -euo pipefail

opa_minor=1.22
here=$(cd "$(dirname "$0")" && pwd)
bin=${ENTENTE_TOOLS_BIN:-$here/../../.tools/bin}

case "${1:-}" in
  opa) package=github.com/open-policy-agent/opa ;;
  buf) package=github.com/bufbuild/buf/cmd/buf ;;
  grpcurl) package=github.com/fullstorydev/grpcurl/cmd/grpcurl ;;
  ledgercheck) package=. ;;
  *) echo "usage: $0 opa|buf|grpcurl|ledgercheck" >&2; exit 2 ;;
esac
tool=$1
mkdir -p "$bin"
bin=$(cd "$bin" && pwd)

is_pinned_opa() {
  "$1" version 2>/dev/null | grep -q "^Version: ${opa_minor//./\\.}\."
}

if [ "$tool" = opa ] && found=$(command -v opa) && is_pinned_opa "$found"; then
  # not onto itself, where .tools/bin is on PATH
  [ "$found" -ef "$bin/opa" ] || ln -sf "$found" "$bin/opa"
  exit 0
fi
if ! command -v go >/dev/null; then
  if [ "$tool" = opa ]; then
    echo "opa $opa_minor was not found, nor go to build it: put opa $opa_minor.x on PATH, or install Go 1.26 (https://go.dev/dl)" >&2
  else
    echo "go was not found, and $tool is built with it: install Go 1.26 (https://go.dev/dl)" >&2
  fi
  exit 1
fi
echo "building $tool (the first time takes a minute)" >&2
# built beside its place and moved, so that an interrupted build leaves no half tool; never through an old symlink
cd "$here/$tool"
CGO_ENABLED=0 go build -trimpath -mod=readonly -o "$bin/.$tool.new" "$package"
mv -f "$bin/.$tool.new" "$bin/$tool"
