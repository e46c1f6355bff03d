// SPDX-License-Identifier: Apache-2.0
#include "attest/owner/page.hpp"

namespace sev::attest::owner {

std::string_view style_sheet() {
    return R"(:root {
    color-scheme: light dark;
    --ground: #f6f7f9; --card: #ffffff; --ink: #16191d; --soft: #5c6570; --line: #dde1e6; --accent: #0b57d0;
    --good: #0f7a3d; --good-ground: #e3f4ea; --bad: #b3261e; --bad-ground: #fce8e6; --wait: #8a5a00; --wait-ground: #fdf1d8; --mute-ground: #eceff2;
}
@media (prefers-color-scheme: dark) {
    :root {
        --ground: #101317; --card: #181c21; --ink: #e6e9ed; --soft: #9aa4af; --line: #2b3138; --accent: #8ab4f8;
        --good: #6fd694; --good-ground: #12301f; --bad: #ff8f86; --bad-ground: #3b1614; --wait: #f2c063; --wait-ground: #362a10;
        --mute-ground: #262b31;
    }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
header { background: var(--card); border-bottom: 1px solid var(--line); }
header > div, main, footer { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
header > div { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 24px; padding-top: 14px; padding-bottom: 14px; }
header .name { font-weight: 650; color: var(--ink); }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; }
main { padding-top: 28px; padding-bottom: 28px; }
footer { color: var(--soft); font-size: 14px; padding-bottom: 40px; overflow-wrap: anywhere; }
h1 { font-size: 26px; line-height: 1.25; font-weight: 650; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 18px; font-weight: 650; margin: 36px 0 12px; }
p { margin: 0 0 12px; max-width: 72ch; }
.soft { color: var(--soft); }
.small { font-size: 14px; }
code, .mono { font: 13px/1.5 ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 12px; margin: 20px 0 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
.tiles b { display: block; font-size: 26px; line-height: 1.2; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--soft); font-size: 14px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.card.pad { padding: 16px 20px; }
.card-head { padding: 16px 20px; }
.card-head p { margin: 8px 0 0; }
.card-head + table thead th { border-top: 1px solid var(--line); }
.card + .card { margin-top: 12px; }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-weight: 500; font-size: 14px; color: var(--soft); white-space: nowrap; }
th, td { padding: 10px 16px; border-top: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: anywhere; min-width: 6em; }
thead th { border-top: 0; }
tbody tr:first-child > * { border-top: 0; }
thead + tbody tr:first-child > * { border-top: 1px solid var(--line); }
td.fit, th.fit { width: 1%; min-width: 0; white-space: nowrap; overflow-wrap: normal; }
table.checks td { padding-top: 7px; padding-bottom: 7px; }
table.checks td.name { width: 280px; }
.tag {
    display: inline-block; padding: 1px 9px; border-radius: 999px; font-size: 13px; font-weight: 550;
    background: var(--mute-ground); color: var(--soft); white-space: nowrap;
}
.tag.good { background: var(--good-ground); color: var(--good); }
.tag.bad { background: var(--bad-ground); color: var(--bad); }
.tag.wait { background: var(--wait-ground); color: var(--wait); }
.banner { border-radius: 10px; padding: 14px 20px; margin: 20px 0; background: var(--mute-ground); }
.banner.good { background: var(--good-ground); color: var(--good); }
.banner.bad { background: var(--bad-ground); color: var(--bad); }
.banner.wait { background: var(--wait-ground); color: var(--wait); }
.banner b { display: block; font-size: 18px; }
dl { display: grid; grid-template-columns: minmax(120px, 200px) 1fr; gap: 8px 20px; margin: 0; }
dt { color: var(--soft); font-size: 14px; padding-top: 1px; }
dd { margin: 0; overflow-wrap: anywhere; }
.empty { padding: 20px; color: var(--soft); }
details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 20px; }
details summary { cursor: pointer; font-weight: 550; }
details .mono { margin-top: 10px; }
@media (max-width: 640px) {
    header > div, main, footer { padding-left: 16px; padding-right: 16px; }
    main { padding-top: 20px; }
    h1 { font-size: 22px; }
    .tiles { grid-template-columns: repeat(2, 1fr); }
    table.rows thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
    table.rows, table.rows tbody, table.rows tr, table.rows td { display: block; width: auto; min-width: 0; }
    table.checks tr { display: grid; grid-template-columns: 52px 1fr; gap: 0 12px; }
    table.checks td, table.checks td.name { display: block; width: auto; min-width: 0; border: 0; padding: 0; }
    table.checks td:last-child { grid-column: 2; }
    table.checks, table.checks tbody { display: block; }
    table.rows tr, table.checks tr { padding: 12px 16px; border-top: 1px solid var(--line); }
    table.rows tbody tr:first-child, table.checks tbody tr:first-child { border-top: 0; }
    table.rows td, thead + tbody tr:first-child > td { border: 0; padding: 2px 0; }
    table.rows td.fit { white-space: normal; width: auto; }
    table.rows td[data-label]::before { content: attr(data-label) ": "; color: var(--soft); font-size: 14px; }
    dl { grid-template-columns: 1fr; gap: 0; }
    dd { margin-bottom: 10px; }
}
@media print { header, .tiles { display: none; } body { background: none; } }
)";
}

} // namespace sev::attest::owner
