"""Novel views in a browser: a server, its messages, the page (`static/`, which `scripts/build_viewer.sh` builds from
`page/`), and edits that are made there."""
