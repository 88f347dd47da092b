#!/usr/bin/env bash
# Fetches the libraries of the dashboard into static/vendor, with their licences: `make web-vendor`. The versions are
# pinned here and nowhere else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

uplot=1.6.32

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work" "uplot@$uplot" >/dev/null
tar -xzf "$work/uplot-$uplot.tgz" -C "$work"

# The package's ES module is three times as large, as it is not minified. The script made for <script> becomes a module
# by what is appended.
target=static/vendor/uplot
rm -rf "$target"
mkdir -p "$target"
{
	cat "$work/package/dist/uPlot.iife.min.js"
	echo 'export default uPlot;'
} >"$target/uplot.js"
cp "$work/package/dist/uPlot.min.css" "$target/uplot.css"
cp "$work/package/LICENSE" "$target/LICENSE"
printf "declare const uPlot: any;\nexport default uPlot;\n" >"$target/uplot.d.ts" # its own types are of the other module
echo "uPlot $uplot, https://github.com/leeoniya/uPlot" >"$target/VERSION"
