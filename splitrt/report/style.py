"""How the page looks, by day and by night. Colours are those of Okabe and Ito, told apart by colour-blind readers."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2430; --soft: #5b6675; --rule: #e3e7ec; --card: #f8f9fb;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #8a6d00; --c5: #3aa0d8; --c6: #6a4c93; --c7: #555; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --ink: #e6e9ee; --soft: #9aa5b4; --rule: #2a313c;
  --card: #1a2029; --c0: #56b4e9; --c1: #ff8c42; --c2: #2fc79a; --c3: #e59fc4; --c4: #e5c443; --c5: #8fd0f5;
  --c6: #b79ae0; --c7: #b0b0b0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
header, main { max-width: 1400px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 28px; } h1 { margin: 0; font-size: 28px; } header p { margin: 2px 0 0; color: var(--soft); }
h2 { font-size: 19px; margin: 30px 0 12px; padding-bottom: 5px; border-bottom: 1px solid var(--rule); }
main { padding-bottom: 48px; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 560px), 1fr)); gap: 18px;
  align-items: start; }
.tables { display: flex; flex-wrap: wrap; gap: 18px 36px; align-items: flex-start; }
.table { overflow-x: auto; max-width: 100%; }
figure { margin: 0; padding: 14px 16px 10px; background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; overflow: hidden; }
figcaption { font-weight: 600; margin-bottom: 8px; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--soft); }
svg text.value { fill: var(--ink); }
.grid { stroke: var(--rule); } .tick { stroke: var(--soft); }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .dots { stroke: none; fill-opacity: .75; }
.band { stroke: none; fill-opacity: .2; }
ul { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 6px 0 0; padding: 0; font-size: 13px;
  color: var(--soft); }
li { overflow-wrap: anywhere; } li i { display: inline-block; width: 11px; height: 11px; border-radius: 3px;
  margin-right: 6px; } i.faint { opacity: .3; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
caption { text-align: left; font-weight: 600; padding-bottom: 4px; }
th, td { padding: 3px 14px 3px 0; border-bottom: 1px solid var(--rule); text-align: left; font-weight: 400; }
tbody th { color: var(--soft); } thead th { font-weight: 600; } td, thead th { text-align: right; }
td { overflow-wrap: anywhere; max-width: 420px; }
"""
COLOURS = {
    **{f"c{index}": f"c{index}" for index in range(8)},
    "c-exit": "c0",
    "c-remote": "c2",
    "c-fallback": "c1",
    "c-gate": "c5",
    "c-skipped": "c7",
    "c-error": "c3",
}
STYLE += "".join(
    f".{name} {{ fill: var(--{colour}); stroke: var(--{colour}); background: var(--{colour}); }}\n"
    f".line.{name} {{ fill: none; }} .dots.{name}, .band.{name}, rect.{name} {{ stroke: none; }}\n"
    for name, colour in COLOURS.items()
)
