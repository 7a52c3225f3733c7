"""The report's style sheet: one column on a phone, light and dark as the reader's system asks."""

CSS = """
:root{--bg:#fbfbfa;--card:#fff;--ink:#1c1d1f;--soft:#63666b;--line:#e3e3e0;--accent:#2563c9;--second:#c2621b;--warn:#9a5b00;
--warnbg:#fdf3e1;--good:#1d7a45;--cold:#cfdcf2}
@media(prefers-color-scheme:dark){:root{--bg:#151618;--card:#1d1f22;--ink:#ececea;--soft:#a2a5aa;--line:#33363a;
--accent:#7fabf5;--second:#f0a469;--warn:#f2c47a;--warnbg:#33291a;--good:#74cf9a;--cold:#2c3a52}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem;max-width:1080px;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:.4rem 0 .2rem}
h2{font-size:1.15rem;margin:2.2rem 0 .7rem}
p{margin:.4rem 0}a{color:var(--accent)}.soft{color:var(--soft)}small{color:var(--soft)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:.7rem;margin:1.2rem 0}
.tile,.card,.chart{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile{padding:.7rem .9rem}.tile b{display:block;font-size:1.45rem;line-height:1.25;font-weight:650}
.tile span{color:var(--soft);font-size:.85rem}
.stills{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:.7rem;margin:1rem 0}
figure{margin:0}img{display:block;width:100%;height:auto;border-radius:6px;background:var(--line)}
figcaption{font-size:.82rem;color:var(--soft);margin:.25rem 0}
.card{padding:.8rem;margin:.7rem 0}.card h3{margin:0 0 .5rem;font-size:.98rem;font-weight:600}
.card h3 span{font-weight:400;color:var(--soft);margin-left:.7rem;white-space:nowrap}
.card h3 span b{color:var(--ink);font-weight:650}
.trio{display:grid;grid-template-columns:repeat(3,1fr);gap:.5rem}
@media(max-width:560px){body{padding:.8rem}.trio{grid-template-columns:repeat(2,1fr)}
.trio figure:last-child{grid-column:1/3}
.tile b{font-size:1.2rem}}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(290px,1fr));gap:.7rem}
.chart{padding:.7rem}.chart figcaption{color:var(--ink);font-weight:600;margin:0 0 .3rem}
.chart svg{display:block;width:100%;height:auto}
.map{margin-top:.7rem}.map svg{max-width:460px;max-height:420px;margin:auto}
.key{font-weight:400;color:var(--soft);margin-left:.7rem;white-space:nowrap}.key b{color:var(--ink);font-weight:600}
.key i{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.35em;background:var(--accent)}
.key i.s1{background:var(--second)}
.ramp{display:inline-block;width:4.5em;height:.7em;border-radius:2px;margin:0 .45em;
background:linear-gradient(90deg,var(--cold),var(--accent))}
.grid{stroke:var(--line);stroke-width:1}.tick{fill:var(--soft);font-size:11px}
.line{fill:none;stroke:var(--accent);stroke-width:2;stroke-linejoin:round}.line.s1{stroke:var(--second)}
.dot{fill:var(--accent)}.dot.s1{fill:var(--second)}.speck{fill:var(--soft);opacity:.35}
.cam{fill:none;stroke:var(--soft);stroke-width:1}
.cam.measured{fill:color-mix(in srgb,var(--accent) var(--q),var(--cold));stroke:none}
.cam.measured.test{stroke:var(--second);stroke-width:2}
ul.plain{list-style:none;margin:0;padding:0}ul.plain li{padding:.55rem 0;border-top:1px solid var(--line)}
ul.plain li:first-child{border-top:0}
.warn{background:var(--warnbg);color:var(--warn);border-radius:8px;padding:.55rem .8rem;margin:.4rem 0}
table{border-collapse:collapse;width:100%;font-size:.93rem}th{text-align:left;font-weight:500}
td,th{padding:.32rem .6rem .32rem 0;vertical-align:top;border-top:1px solid var(--line)}tr:first-child>*{border-top:0}
.num{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums;padding-right:0}
.bars th{white-space:nowrap;overflow-wrap:normal}
.bars .bar{width:55%;vertical-align:middle}
.bars i{display:block;height:.65rem;border-radius:0 4px 4px 0;background:var(--accent);min-width:2px}
.sum>*{font-weight:650}
.pairs{display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:.7rem}
@media(max-width:400px){.pairs,.charts{grid-template-columns:1fr}}
details summary{cursor:pointer;color:var(--accent);margin:.6rem 0}
.good{color:var(--good)}
@media print{body{max-width:none}.card,.chart,.tile{break-inside:avoid}}
""".strip()
