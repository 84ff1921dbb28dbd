"""Each view of the explorer for everybody: names of controls, contrast, headings, at two widths, dark and light."""

from __future__ import annotations

from tests.support import one, transfer

# The text whose contrast with what is behind it is below WCAG 2.2's 4.5 (3 where it is large).
CONTRAST = """
(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => channels(color).slice(0, 3)
    .map((channel) => channel / 255)
    .map((channel) => channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4)
    .reduce((sum, channel, place) => sum + channel * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = getComputedStyle(each).backgroundColor;
      if ((channels(color)[3] ?? 1) === 1) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const scope = document.querySelector("dialog[open]") ?? document.body;
  const texts = document.createTreeWalker(scope, NodeFilter.SHOW_TEXT);
  const faint = [];
  let seen = 0;
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest("noscript, option")) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(style.color), light(behind(element))].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    seen++;
    if ((one + 0.05) / (other + 0.05) < least) faint.push([texts.currentNode.data, style.color, behind(element)]);
  }
  return { seen, faint };
})()"""

STRUCTURE = """
(() => {
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  const references = ["aria-labelledby", "aria-describedby"];
  const named = (place) => references.flatMap((name) => (place.getAttribute(name) ?? "").split(" "));
  return {
    language: document.documentElement.lang,
    headings: document.querySelectorAll("h1").length,
    twice: ids.filter((id, place) => ids.indexOf(id) !== place),
    dangling: [...document.querySelectorAll("[aria-labelledby], [aria-describedby], label[for]")]
      .flatMap((element) => [...named(element), element.htmlFor ?? ""]).filter((id) => id && !ids.includes(id)),
    small: [...document.querySelectorAll("button, select, input")].filter((element) =>
      element.checkVisibility() && element.getBoundingClientRect().height < 24).length,
    wide: document.documentElement.scrollWidth > innerWidth,
  };
})()"""

CONTROLS = {"button", "link", "textbox", "searchbox", "combobox", "table", "dialog", "navigation"}


def views(group: dict[str, int], entry: int) -> dict[str, str]:
    """The address of each view, and a text that it shows."""
    inside = f"#/groups/{group['id']}"
    return {
        "#/": "Foundation",
        inside: "Newest entries",
        f"{inside}/participants/{group['Vitalik']}": "Statement",
        f"{inside}/entries/{entry}": "The same request in curl",
        f"{inside}/checkpoints": "Checkpoint 1",
        f"{inside}/checkpoints/1": "Leaves",
        f"{inside}/checkpoints/1/proofs/{group['Vlad']}": "Download the proof",
        "#/search?q=Vlad": "participant",
        "#/service": "Requests a second",
        "#/nowhere": "There is no such page",
    }


def test_every_view_is_readable_and_its_controls_have_names(person, admin, group, tmp_path):
    entry = transfer(admin, group["id"], group["Vitalik"], group["Vlad"], 5)
    one(admin, "select number from ledger.checkpoint(%s)", [group["id"]])
    page = person.page
    page("Accessibility.enable")
    for number, (view, text) in enumerate(views(group, entry).items()):
        person.opens(view)
        person.sees(text, "main")
        looked_at(person, tmp_path / f"{number}")
    person.opens(f"#/groups/{group['id']}")
    person.presses("Transfer")
    person.types("From", "nobody")
    person.presses("Continue")
    person.sees("Nobody in this group", "dialog")
    looked_at(person, tmp_path / "form")
    page("Emulation.clearDeviceMetricsOverride")
    page("Emulation.setEmulatedMedia", features=[])
    page("Accessibility.disable")


def looked_at(person, file):
    page = person.page
    for width in (1280, 390):
        page("Emulation.setDeviceMetricsOverride", width=width, height=1400, deviceScaleFactor=1, mobile=width < 600)
        structure = page.evaluate(STRUCTURE)
        assert structure == {"language": "en", "headings": 1, "twice": [], "dangling": [], "small": 0, "wide": False}
        for scheme in ("light", "dark"):
            page("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            contrast = page.evaluate(CONTRAST)
            assert contrast["seen"] > 5
            assert contrast["faint"] == [], scheme
            page.screenshot(file.with_name(f"{file.name}-{width}-{scheme}.png"))
    nodes = page("Accessibility.getFullAXTree")["nodes"]
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in CONTROLS]
    assert len(controls) > 3
    assert [node for node in controls if not node["name"]["value"].strip()] == []
