#!/usr/bin/env bash
# Builds the viewer's page (splat/viewer/page) into splat/viewer/static, which is committed: whoever installs splat needs
# no npm. Needs npm and a registry. `build_viewer.sh FOLDER` writes elsewhere.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
page=$here/splat/viewer/page
out=${1:-$here/splat/viewer/static}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp "$page"/*.js "$page"/package.json "$page"/package-lock.json "$work"
cd "$work"
npm ci --no-audit --no-fund --ignore-scripts --silent
node_modules/.bin/esbuild main.js --bundle --minify --format=esm --target=es2022 --charset=utf8 --legal-comments=none \
    --log-level=warning --outfile=viewer.js

mkdir -p "$out/licenses"
cp viewer.js "$page/index.html" "$page/style.css" "$out"
# what it was built from, so that a bundle that was forgotten is noticed without npm
(cd "$page" && cat $(LC_ALL=C ls *.js package-lock.json) | sha256sum | cut -d" " -f1) > "$out/sources.sha256"
# what the bundle holds; esbuild itself is not part of it. fflate is inside Spark's own bundle
for package in @sparkjsdev/spark three fflate; do
    cp "node_modules/$package/LICENSE" "$out/licenses/$(basename "$package").txt"
done
echo "$out: $(wc -c < "$out/viewer.js") bytes"
