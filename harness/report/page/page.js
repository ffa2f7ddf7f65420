const form = document.getElementById("filters");
const dialog = document.getElementById("evidence");
const tables = [...document.querySelectorAll("table[data-name]")];

// Texts are only ever set as text, never as markup.
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== ""));
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const three = (value) => value.toFixed(3);
const signed = (value) => (value < 0 ? "−" : "+") + three(Math.abs(value));

// Sorting: best first, then worst first, then as it was. What has no number stays last.

function makeSortable(table) {
  const body = table.tBodies[0], original = [...body.rows];
  const heads = [...table.querySelectorAll("thead th[data-column]")];
  for (const head of heads) {
    const column = Number(head.dataset.column);
    const cycle = column ? ["descending", "ascending"] : ["ascending", "descending"];
    const button = el("button", { type: "button", class: "sort", tabindex: -1 }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = cycle[cycle.indexOf(head.getAttribute("aria-sort")) + 1];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (order) head.setAttribute("aria-sort", order);
      body.append(...(order ? sorted(original, column, order === "ascending" ? 1 : -1) : original));
    });
  }
}

function sorted(rows, column, direction) {
  const text = (row) => row.cells[column].textContent.trim();
  if (!column) return [...rows].sort((a, b) => direction * text(a).localeCompare(text(b), "en", { numeric: true }));
  const value = (row) => Number(row.cells[column].dataset.value ?? NaN);
  return [...rows].sort((a, b) =>
    isNaN(value(a)) || isNaN(value(b)) ? isNaN(value(a)) - isNaN(value(b)) : direction * (value(a) - value(b)));
}

// Filters, which the address keeps, so that a view can be passed on.

const FILTERS = ["protocol", "dataset", "recipe", "find"];

// What the address says: filters and the table that it leads to, or that one's own anchor.
const address = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : location.hash.length > 1 ? { table: location.hash.slice(1) } : {});

function filter(at = "") {
  const wanted = new FormData(form);
  const methods = wanted.getAll("method");
  const wants = search(wanted.get("find") ?? "");
  const keeps = (node) => !methods.length || !node.dataset.method || methods.includes(node.dataset.method);
  let shown = 0;
  for (const table of tables) {
    const section = table.closest("section"), place = section.dataset;
    const named = [...new Set([...table.querySelectorAll("thead [data-method]")].map((cell) => cell.dataset.method))].join(" ");
    const title = `${table.caption.textContent} | ${place.protocol} ${place.dataset} ${place.recipe} | ${named}`;
    let rows = 0;
    for (const row of table.tBodies[0].rows) {
      const text = `${title} | ${row.cells[0].textContent} ${row.dataset.method ?? ""} | ${row.dataset.find ?? ""}`;
      row.hidden = !(keeps(row) && wants(text));
      rows += !row.hidden;
    }
    for (const cell of table.querySelectorAll("th[data-method], td[data-method]")) cell.hidden = !keeps(cell);
    const heads = [...table.querySelectorAll("thead [data-column]:not([data-column='0'])")];
    const columns = heads.filter((cell) => !cell.hidden).length;
    enter(table);
    // The average is over all cases: beside some of them alone it would mislead.
    if (table.tFoot) table.tFoot.hidden = rows < table.tBodies[0].rows.length;
    const chosen = ["protocol", "dataset", "recipe"].every((name) => !wanted.get(name) || wanted.get(name) === place[name]);
    section.hidden = !(chosen && rows && columns);
    section.querySelector(".part").textContent = [
      rows < table.tBodies[0].rows.length && `${rows} of ${table.tBodies[0].rows.length} rows`,
      columns < heads.length && `${columns} of ${heads.length} columns`, table.tFoot?.hidden && "no average",
    ].filter(Boolean).join(", ");
    shown += !section.hidden;
    const link = document.querySelector(`nav a[href="#${CSS.escape(section.id)}"]`);
    if (link) link.parentNode.hidden = section.hidden;
  }
  document.body.classList.toggle("without-paper", form.elements.paper !== undefined && !form.elements.paper.checked);
  document.getElementById("nothing").hidden = shown > 0;
  form.querySelector("output").textContent = shown < tables.length ? `${shown} of ${tables.length} tables` : "";
  const kept = new URLSearchParams(FILTERS.filter((name) => wanted.get(name)).map((name) => [name, wanted.get(name)]));
  methods.forEach((name) => kept.append("method", name));
  if (form.elements.paper && !form.elements.paper.checked) kept.set("paper", "off");
  form.querySelector("button[type=reset]").hidden = !kept.size;
  if (kept.size && at) kept.set("table", at);
  if (kept.size || location.hash.includes("=")) history.replaceState(null, "", kept.size ? `#${kept}` : "#");
}

// Words are found where one begins, but with a digit at its end only as a whole: "cat" in "caterpillar", "cifar10" not in
// "cifar100". A number belongs to a word before it that is numbered: "table 8" is neither "Table 4" nor an 8, and an 8 is
// no table.
const NUMBERED = /^(table|test|level)$/;
const words = (text) => text.toLowerCase().replace(/([a-z])-(?=\d)/g, "$1").match(/[\p{L}\p{N}_.]+|\|/gu) ?? [];

function search(query) {
  const terms = [];
  for (const word of words(query)) {
    if (/^\d+$/.test(word) && NUMBERED.test(terms.at(-1)?.at(-1))) terms.at(-1).push(word);
    else terms.push([word]);
  }
  const fits = (word, wanted) => word === wanted || (!/\d$/.test(wanted) && word?.startsWith(wanted));
  return (text) => {
    const found = words(text);
    return terms.every((term) => found.some((_, i) =>
      term.every((wanted, j) => fits(found[i + j], wanted)) &&
      !(/^\d+$/.test(term[0]) && NUMBERED.test(found[i - 1]))));
  };
}

function restore() {
  const anchor = location.hash.length > 1 && !location.hash.includes("=");
  if (anchor) return;  // which leaves the filters as they are
  const kept = address();
  for (const name of FILTERS) if (form.elements[name]) form.elements[name].value = kept.get(name) ?? "";
  for (const box of form.querySelectorAll("[name=method]")) box.checked = kept.getAll("method").includes(box.value);
  if (form.elements.paper) form.elements.paper.checked = kept.get("paper") !== "off";
}

function show() {
  const kept = address(), table = kept.get("table"), cell = kept.get("cell");
  dialog.close();
  restore();
  filter(table);
  const section = document.getElementById(table);
  section?.scrollIntoView();
  if (cell) [...section?.querySelectorAll("td[data-cell]") ?? []].find((one) => one.dataset.cell === cell)?.querySelector("button").click();
}

// While a number is open, the address is its own.
function addressOf(cell) {
  const kept = address();
  kept.set("table", cell.closest("section").id);
  kept.set("cell", cell.dataset.cell);
  return `#${kept}`;
}

function closed() {
  const kept = address();
  if (dialog.open || !kept.has("cell")) return;
  kept.delete("cell");
  history.replaceState(null, "", `#${kept.size > 1 ? kept : kept.get("table")}`);
}

function chooseTheme() {
  const select = form.elements.theme;
  // Some browsers keep nothing for a page that is a file.
  try { select.value = localStorage.getItem("harness-theme") ?? ""; } catch { /* the system's theme, then */ }
  const apply = () => { document.documentElement.dataset.theme = select.value; };
  select.addEventListener("change", () => {
    apply();
    try { localStorage.setItem("harness-theme", select.value); } catch { /* for this visit only */ }
  });
  apply();
}

// Cells that open

const REASONS = {
  unrun: " not run, or not for every case",
  skipped: " does not apply",
  failed: " with its reason",
};

const entriesOf = (cell) => cell.dataset.entries.split(" ").map((number) => data.entries[number]);

// The name of a number, by the head of its column or by its method, which tells variants apart.
const nameOf = (entry, place, by = "head") => [`${entry[by]} ${entry.score}`.trim(), entry.set, place].filter(Boolean).join(", ");

function called(cell, by) {
  const entries = entriesOf(cell);
  return nameOf(entries[0], entries.length > 1 ? cell.dataset.place : entries[0].case, by);
}

function makeOpenable(table) {
  for (const cell of table.querySelectorAll("td[data-entries]")) {
    const entries = entriesOf(cell);
    cell.dataset.cell = called(cell, "method");
    const button = el("button", { type: "button", class: "open", tabindex: -1, "aria-haspopup": "dialog" }, ...cell.childNodes,
      el("span", { class: "unseen" }, `${REASONS[cell.className] ?? ""}: evidence for ${called(cell)}`));
    if (REASONS[cell.className]) button.title = (entries.length === 1 && state(entries[0]).reasons.join("; ")) || REASONS[cell.className].trim();
    cell.append(button);
    cell.classList.add("opens");
    button.addEventListener("click", () => {
      history.replaceState(null, "", addressOf(cell));
      openWith(() => showCell(cell));
    });
  }
  for (const heading of table.querySelectorAll("tr:not([data-method]) > th[scope=row]")) {
    const button = el("button", { type: "button", class: "rank", tabindex: -1, "aria-haspopup": "dialog", title: "the numbers of this row, best first" },
      ...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => openWith(() => showRow(heading.parentNode)));
  }
  table.addEventListener("keydown", (event) => move(event, table));
  table.addEventListener("focusin", (event) => { if (event.target.matches("button")) enter(table, event.target); });
}

// Tab goes from table to table; within one, arrows go from number to number, and to the heads that sort.
function enter(table, button) {
  const shown = (one) => one && !one.closest("[hidden]");
  const before = table.querySelector("button[tabindex='0']");
  const first = (kind) => [...table.querySelectorAll(`button.${kind}`)].find(shown);
  const reached = button ?? (shown(before) ? before : first("open") ?? first("sort"));
  if (before) before.tabIndex = -1;
  if (reached) reached.tabIndex = 0;
}

function move(event, table) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
  const at = event.target.closest("button");
  if (!step || !at || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  // All heads are one row, be they in two.
  const heads = [...table.querySelectorAll("thead [data-column]")].sort((a, b) => a.dataset.column - b.dataset.column);
  const rows = [...table.rows].filter((row) => row.parentNode !== table.tHead && !row.hidden && !row.parentNode.hidden);
  const cells = [heads, ...rows.map((row) => [...row.cells])].map((row) => row.map((one) => (one.hidden ? null : one.querySelector("button"))));
  let y = cells.findIndex((row) => row.includes(at)), x = cells[y].indexOf(at);
  do { y += step[0]; x += step[1]; } while (cells[y] && x in cells[y] && !cells[y][x]);
  cells[y]?.[x]?.focus();
}

// The evidence

function openWith(view) {
  view();
  dialog.showModal();
  dialog.scrollTop = 0;
}

// From one view to another, with the focus at its beginning.
function turn(view) {
  view();
  dialog.scrollTop = 0;
  dialog.querySelector("button").focus();
}

function head(title, subtitle, back) {
  const button = back && el("button", { type: "button", class: "back" }, "← back");
  button?.addEventListener("click", () => turn(back));
  return el("div", { class: "head" },
    el("div", {}, button,
      el("h2", { id: "evidence-title" }, title), el("p", { class: "tags" }, ...subtitle.map((text) => el("span", {}, text)))),
    el("form", { method: "dialog" }, el("button", { class: "close", "aria-label": "Close", autofocus: true }, "✕")));
}

function tableOf(entry) {
  const { protocol, dataset, recipe, changed } = data.boards[entry.board];
  return [protocol, dataset, `recipe ${recipe}`, changed].filter(Boolean);
}

function about(entry) {
  return [...tableOf(entry), `case ${entry.case}`, entry.set].filter(Boolean);
}

// Numbers in a list, of which each leads to more.
function several(items) {
  return el("ul", { class: "several" }, items.map(([name, number, view]) => {
    const button = el("button", { type: "button" }, name, el("span", {}, number));
    button.addEventListener("click", () => turn(view));
    return el("li", {}, button);
  }));
}

function showCell(cell, back) {
  const entries = entriesOf(cell);
  if (entries.length > 1) showSeveral(entries, cell, back);
  else showOne(entries[0], back);
}

// The AUROC of a row's columns that are in sight, best first.
function showRow(row) {
  const corner = row.parentNode.tagName === "TBODY" ? row.closest("table").querySelector("[data-column='0']").textContent : "";
  const tags = [...row.closest("section").querySelectorAll(".tags span")].slice(0, 3).map((one) => one.textContent);
  const cells = [...row.cells].filter((cell) => cell.dataset.value && !cell.hidden && !isRate(entriesOf(cell)[0]));
  cells.sort((a, b) => b.dataset.value - a.dataset.value);
  const number = (cell) => [...cell.querySelectorAll("strong, span:not(.unseen), .spread")].map((one) => [one.cloneNode(true), " "]);
  dialog.replaceChildren(head(`${corner} ${row.cells[0].textContent}`.trim(), tags),
    el("p", {}, cells.length ? "AUROC, best first" : "There is no number."),
    several(cells.map((cell) => [nameOf(entriesOf(cell)[0]), number(cell), () => showCell(cell, () => showRow(row))])));
}

function showSeveral(entries, cell, back) {
  const one = entries[0], values = entries.map((entry) => entry.mean);
  const range = `, which range from ${three(Math.min(...values))} to ${three(Math.max(...values))}.`;
  const mean = data.means[cell.dataset.mean];
  dialog.replaceChildren(
    head(called(cell), tableOf(one), back), el("div", { class: "numbers" }, ...figures(mean, isRate(one) ? one.score : "AUROC")),
    el("p", {}, `The mean of ${entries.length} cases` + (mean.mean === undefined ? ", which needs a number of each." : range)),
    several(entries.map((entry) => [entry.case,
      entry.mean === undefined ? state(entry).word : three(entry.mean), () => showOne(entry, () => showSeveral(entries, cell, back))])));
}

function state(entry) {
  const runs = entry.runs.map((number) => data.runs[number]);
  const bad = runs.filter((run) => run.status !== "ok");
  if (bad.length) {
    const failed = bad.some((run) => run.status === "failed");
    const reasons = [...new Set(bad.map((run) => run.status === "failed" ? `Seed ${run.seed}: ${run.reason}` : run.reason))];
    const some = bad.length < runs.length ? `${bad.length} of ${runs.length} seeds ` : "";
    return { word: some + (failed ? "failed" : "does not apply"), reasons, failed };
  }
  return { word: "not run", reasons: [] };
}

function showOne(entry, back) {
  const runs = entry.runs.map((number) => data.runs[number]);
  dialog.replaceChildren(head(`${entry.head} ${entry.score}`, about(entry), back), el("div", { class: "numbers" }, ...summary(entry)), classes(entry), ...charts(entry, runs),
    ...strips(entry), ...(runs.length ? [...madeWith(runs), seeds(entry, runs), ...runs.map((run) => facts(run, runs.length === 1))] : []));
}

function figure(label, value, note, kind) {
  return el("div", { class: kind }, el("b", {}, value), el("span", {}, label), note && el("small", {}, note));
}

function summary(entry) {
  const found = [];
  if (entry.mean === undefined) {
    const { word, reasons, failed } = state(entry);
    found.push(el("div", { class: failed ? "why failed" : "why" }, el("b", {}, word),
      ...reasons.map((reason) => el("p", {}, reason)),
      entry.command && el("p", {}, `There is no record of it. To make one${entry.command.includes("--protocol protocols/") ? ", in the folder of this page" : ""}: `, el("code", {}, entry.command))));
  }
  return [...found, ...figures(entry, isRate(entry) ? entry.score : "AUROC")];
}

// Whether a number is no AUROC, but a share of images.
const isRate = (entry) => !entry.numbers.some(Boolean);

// One seed tells nothing of others, and neither does its interval.
function figures({ mean, std, interval, seeds, paper }, name) {
  const found = [], alone = seeds === 1;
  if (mean !== undefined) {
    found.push(figure(name, three(mean), std === null ? (alone ? "one seed" : "seeds differ between cases") : `± ${three(std)} over ${seeds} seeds`, "main"));
    found.push(figure("95 % interval", interval.map(three).join(" – "), alone ? "for other images, not other seeds" : ""));
  }
  if (paper) {
    found.push(figure(`the paper, ${paper.table}`, paper.printed, paper.note, "paper"));
    if (paper.difference !== null) found.push(figure("ours − paper", signed(paper.difference), paper.verdict + (alone ? ", by one seed" : ""), "paper"));
  }
  return found;
}

function classes(entry) {
  const clusters = data.facts[entry.normal].map((cluster) => cluster.join(", "));
  const several = clusters.length > 1 && data.facts[entry.normal].some((cluster) => cluster.length > 1);
  return el("dl", { class: "classes" },
    el("dt", {}, "normal"), several ? clusters.map((text) => el("dd", {}, text)) : el("dd", {}, clusters.join(", ")),
    el("dt", {}, "anomalous"), el("dd", {}, data.facts[entry.anomaly].join(", ")));
}

// Charts

const BOX = { left: 34, right: 8, top: 8, bottom: 32, width: 300, height: 250 };
const X = (share) => BOX.left + share * (BOX.width - BOX.left - BOX.right);
const Y = (share) => BOX.height - BOX.bottom - share * (BOX.height - BOX.top - BOX.bottom);
const line = (xs, ys) => xs.map((x, i) => `${i ? "L" : "M"}${X(x).toFixed(1)} ${Y(ys[i]).toFixed(1)}`).join("");

function frame(label, xTicks, yTicks, xLabel, ...marks) {
  return svg("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "img", "aria-label": label },
    yTicks.map(([at, text]) => [svg("path", { class: "grid", d: line([0, 1], [at, at]) }),
      svg("text", { x: X(0) - 4, y: Y(at) + 3, "text-anchor": "end" }, text)]),
    xTicks.map(([at, text], i) => svg("text", { x: X(at), y: Y(0) + 13,
      "text-anchor": i === xTicks.length - 1 ? "end" : i ? "middle" : "start" }, text)),
    svg("text", { x: X(0.5), y: BOX.height - 3, "text-anchor": "middle" }, xLabel), marks);
}

function rates(steps) {
  let sum = 0;
  return steps.map((step) => (sum += step) / 1000);
}

function charts(entry, runs) {
  if (!entry.roc) return [];
  const ticks = [[0, "0"], [0.5, ".5"], [1, "1"]];
  const scored = runs.filter((run, i) => entry.numbers[i]);
  const curves = entry.roc.map(([x, y], i) =>
    svg("path", { class: `curve seed${i % 4}`, d: line(rates(x), rates(y)) },
      svg("title", {}, `seed ${scored[i].seed}`)));
  const chart = frame(`ROC curves; area under the curve ${entry.mean === undefined ? "unknown" : three(entry.mean)}`, ticks, ticks,
    "false positive rate (normal images)", svg("path", { class: "chance", d: line([0, 1], [0, 1]) }), curves);
  const many = scored.length > 1 ? `, seeds ${scored.map((run) => run.seed).join(", ")}` : "";
  return [el("div", { class: "charts" },
    el("figure", {}, el("figcaption", {}, `ROC: true against false positive rate${many}`), chart),
    el("figure", {}, el("figcaption", {}, `Anomaly scores${scored.length > 1 ? `, seed ${scored[0].seed}` : ""}: `, el("span", { class: "key normal" }, "normal"), " ",
      el("span", { class: "key anomaly" }, "anomalies"), "; the outermost bars hold what lies beyond, too"), histogram(entry.histogram)))];
}

function histogram({ ends, normal, anomaly }) {
  // A score can have most images in one bin; the root keeps the rest in sight.
  const shares = [normal, anomaly].map((counts) => counts.map((n) => n / counts.reduce((a, b) => a + b, 0)));
  const top = Math.max(...shares.flat()), height = (share) => Math.sqrt(share / top);
  const steps = (share, closed) => {
    const xs = share.flatMap((_, i) => [i / share.length, (i + 1) / share.length]), ys = share.flatMap((s) => [height(s), height(s)]);
    return closed ? line([0, ...xs, 1], [0, ...ys, 0]) : line(xs, ys);
  };
  const digit = 10 ** Math.floor(Math.log10(top)), rounded = Math.floor(top / digit) * digit, marks = [rounded, rounded / 4];
  // As many digits as tell the ends apart.
  const digits = Math.min(17, 3 + Math.max(0, Math.round(Math.log10(Math.max(...ends.map(Math.abs)) / (ends[1] - ends[0])))));
  const percent = (share) => `${Number((100 * share).toPrecision(2))} %`;
  return frame("Histogram of the anomaly scores of normal images and of anomalies; square-root scale",
    [[0, ends[0]], [0.5, (ends[0] + ends[1]) / 2], [1, ends[1]]].map(([at, end]) => [at, String(Number(end.toPrecision(digits))).replace("-", "−")]),
    [[0, "0"], ...marks.map((share) => [height(share), percent(share)])], "score; share of images on a square-root scale",
    svg("path", { class: "bars", d: steps(shares[0], true) }), svg("path", { class: "outline", d: steps(shares[1], false) }));
}

// Test images

const STRIPS = ["Normal, found most normal", "Normal, found most anomalous", "Anomalies, found most normal", "Anomalies, found most anomalous"];
const atlases = new Map();

function strips(entry) {
  if (!entry.roc) return [];
  const run = data.runs[entry.runs[entry.numbers.findIndex(Boolean)]];
  const key = run.facts.digests === undefined ? "" : data.facts[run.facts.digests].dataset;
  const source = pictures[key], four = source?.strips?.[entry.pictures];
  if (!four) {
    const why = source && (source.note ?? "no pictures of this one, since the data set was not at hand when it was published");
    return why ? [el("p", { class: "note" }, why + ".")] : [];
  }
  if (!atlases.has(key)) {
    atlases.set(key, new Image());
    atlases.get(key).src = source.atlas;
  }
  const image = (place, score) => {
    const [width, height] = source.size, x = (place % source.columns) * width, y = Math.floor(place / source.columns) * height;
    const name = `class ${source.classes[place]}, score ${score}`;
    const canvas = el("canvas", { width, height, role: "img", "aria-label": name, title: name });
    atlases.get(key).decode().then(() =>
      canvas.getContext("2d").drawImage(atlases.get(key), x, y, width, height, 0, 0, width, height));
    return el("li", {}, canvas, el("small", {}, source.classes[place]));
  };
  const seed = entry.runs.length > 1 ? `, seed ${run.seed}` : "";
  return [el("h3", {}, `Test images${seed}`), el("div", { class: "strips" }, four.map((strip, i) =>
    el("figure", { class: i % 3 ? "wrong" : "" }, el("figcaption", {}, STRIPS[i]), el("ul", {}, strip.map(([place, score]) => image(place, score)))))),
  el("p", { class: "note" }, `${source.credit}.`)];
}

// The record

function madeWith(runs) {
  const made = new Map();
  for (const run of runs) {
    const fact = (name) => data.facts[run.facts[name]] ?? {};
    const { commit, dirty, processor } = fact("provenance"), { device, precision } = fact("numerics");
    const code = commit ? `commit ${commit.slice(0, 12)}${dirty ? " with uncommitted changes" : ""}` : "no commit";
    const text = [`recipe ${run.recipe}`, [device, precision].filter(Boolean).join(", "), processor, code].filter(Boolean).join(" · ");
    made.set(text, [...(made.get(text) ?? []), run.seed]);
  }
  const of = (seeds) => made.size > 1 ? `${seeds.length > 1 ? "seeds" : "seed"} ${seeds.join(", ")}: ` : "";
  return [el("h3", {}, "Runs"), ...[...made].map(([text, seeds]) => el("p", { class: "note" }, of(seeds) + text))];
}

function seeds(entry, runs) {
  const scored = entry.numbers.some(Boolean);
  const names = scored ? ["AUROC", "95 % interval", "AUPR", "FPR95"] : [entry.score || "status"];
  const cells = (run, i) => {
    const n = entry.numbers[i];
    if (n) return [three(n[0]), `${three(n[1])} – ${three(n[2])}`, three(n[3]), three(n[4])];
    return [entry.values[i] === null ? run.status : three(entry.values[i]), ...names.slice(1).map(() => "")];
  };
  const time = (seconds) => seconds >= 100 ? `${Math.round(seconds / 60)} min` : `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Seeds" }, el("table", { class: "seeds" },
    el("thead", {}, el("tr", {}, ["seed", ...names, "training", "scoring"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, runs.map((run, i) => el("tr", {}, el("th", { scope: "row" }, run.seed),
      cells(run, i).map((text) => el("td", {}, text)), run.seconds.map((seconds) => el("td", {}, time(seconds))))))));
}

const TITLES = { params: "method parameters", recipe_values: "recipe", numerics: "numerics", diagnostics: "noted while training",
  digests: "digests", provenance: "made with", settings: "changed with --set", dataset_params: "data set parameters" };
const plain = (value) => typeof value === "object" && value !== null
  ? Object.entries(value).map(([name, inner]) => `${name} ${plain(inner)}`).join(", ") : String(value ?? "–");

function facts(run, open) {
  const rows = [["recipe", run.recipe], ["status", run.status], ["test images", `${run.images[0]} normal, ${run.images[1]} anomalous`],
    ["accuracy of sub-clusters", run.accuracy === null ? "" : three(run.accuracy)], ["fit", run.fit], ["scores (SHA-256)", run.scores]];
  const list = (pairs) => el("dl", {}, pairs.filter(([, value]) => value !== "").map(([name, value]) =>
    [el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, plain(value))]));
  return el("details", { open }, el("summary", {}, `Record of seed ${run.seed}`), list(rows),
    ...Object.entries(run.facts).map(([name, number]) => [el("h3", {}, TITLES[name]), list(Object.entries(data.facts[number]))]));
}

// To begin with. A browser that can't unpack the data keeps the page as it is without a script.

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json();
}

chooseTheme();
const [data, pictures] = await Promise.all(["data", "pictures"].map(unpacked));
for (const node of document.querySelectorAll(".scripted, .unscripted")) node.hidden = !node.hidden;
tables.forEach(makeSortable);
tables.forEach(makeOpenable);
show();
form.addEventListener("input", () => filter());
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const name of FILTERS) if (form.elements[name]) form.elements[name].value = "";
  for (const box of form.querySelectorAll("[name=method]")) box.checked = false;
  if (form.elements.paper) form.elements.paper.checked = true;
  filter();
  form.elements.find.focus();
});
window.addEventListener("hashchange", show);
dialog.addEventListener("close", closed);
// Paper can't be scrolled: a table that is wider than a page is made smaller. In print all are about 0.7 times as wide.
const PAPER = 1350;
window.addEventListener("beforeprint", () => tables.forEach((table) => {
  table.style.setProperty("--fit", Math.min(1, PAPER / table.offsetWidth));
}));
// A press beside the dialog closes it; one that ends there, as when text is marked, does not.
let beside = false;
const isBeside = ({ target, clientX: x, clientY: y }) => {
  const box = dialog.getBoundingClientRect();
  return target === dialog && (x < box.left || x > box.right || y < box.top || y > box.bottom);
};
dialog.addEventListener("pointerdown", (event) => { beside = isBeside(event); });
dialog.addEventListener("click", (event) => { if (beside && isBeside(event)) dialog.close(); });
