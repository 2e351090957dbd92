"""The style of the plots, the same in a report and on the dashboard, each of which brings its own colours.

They are the variables --ink, --muted, --paper (what a plot stands on), --grid, --band, --bad and --v0 to --v3.
"""

from __future__ import annotations

STYLE = """\
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 12px; padding: 0; list-style: none;
  font-size: 13.5px; }
.legend li { display: inline-flex; align-items: center; gap: 6px; min-width: 0; overflow-wrap: anywhere; }
.glyph { flex: none; width: 14px; height: 14px; overflow: visible; } .glyph.line { width: 42px; }
.plot { display: block; width: 100%; height: auto; overflow: visible; font-size: 12.5px; font-family: inherit; }
.whole .plot.narrow { display: none; }
.plot .tick { fill: var(--muted); } .plot .title { fill: var(--muted); }
.plot .name { fill: var(--ink); }
.plot .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
.grid { stroke: var(--grid); } .axis { stroke: var(--muted); }
.band { fill: var(--band); } .noise { fill: var(--grid); }
.plot .error { stroke: var(--muted); stroke-width: 1.2; opacity: 0.7; }
.resumed { stroke: var(--muted); stroke-dasharray: 3 4; }
.kept { fill: var(--v0); } .protected { fill: var(--paper); stroke: var(--v0); stroke-width: 1.6; }
.removed { stroke: var(--bad); stroke-width: 2.4; stroke-linecap: round; fill: none; }
.v0 { fill: var(--v0); stroke: var(--v0); } .v1 { fill: var(--v1); stroke: var(--v1); }
.v2 { fill: var(--v2); stroke: var(--v2); } .v3 { fill: var(--v3); stroke: var(--v3); }
.v3.stroke { fill: none; stroke-width: 2.4; }
.dim { fill: var(--muted); stroke: var(--muted); opacity: 0.4; } .dim.stroke { fill: none; stroke-width: 2.4; }
.plot .front { fill: none; stroke: var(--muted); stroke-width: 1.4; stroke-dasharray: 1 4; stroke-linecap: round; }
.limit { stroke: var(--bad); stroke-width: 1.3; stroke-dasharray: 6 4; opacity: 0.7; }
.chosen { fill: none; stroke: var(--v2); stroke-width: 2.2; }
.whisker { stroke-width: 1.8; opacity: 0.75; } .whisker.dim { opacity: 0.3; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.dash1 { stroke-dasharray: 8 4; } .dash2 { stroke-dasharray: 2 3; }
.dash3 { stroke-dasharray: 10 3 2 3; } .dash4 { stroke-dasharray: 14 4 2 4 2 4; }
@media (max-width: 640px) { .whole .plot.wide { display: none; } .whole .plot.narrow { display: block; } }
"""
