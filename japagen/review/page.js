"use strict";
// Texts come from models and files: they are only ever set as textContent.

const by = (id) => document.getElementById(id);
const state = { examples: [], at: 0, saving: Promise.resolve() };
// Marks that turn the direction of what follows are shown instead of obeyed.
const MARKS = /[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
const visible = (text) =>
  text.replace(MARKS, (mark) => `[U+${mark.codePointAt(0).toString(16).toUpperCase()}]`);
const fill = (key, values = {}) =>
  state.words[key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
const word = (kind, code) => state.words[`${kind}.${code}`] || code;
const percent = (value) => `${(100 * value).toFixed(1)}%`;

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function button(key, text, act, attributes = {}) {
  const made = element("button", undefined, { type: "button", ...attributes });
  if (key) made.append(element("kbd", key));
  made.append(text);
  made.addEventListener("click", act);
  return made;
}

function pairs(list, rows) {
  list.replaceChildren();
  for (const [name, value] of rows) list.append(element("dt", name), element("dd", value));
}

const current = () => state.examples[state.at];
const decisionOf = (example) => example.decision || null;
const GOOD = ["accept", "relabel"];
// What was changed of a text and goes out with its verdict: register, comment, text, text_pair.
const pendingOf = (example) => (example.pending ??= {});
const edits = () => [["text", by("text"), by("edit")], ["text_pair", by("pair"), by("edit-pair")]];

function written(example, name) {
  return pendingOf(example)[name] ?? decisionOf(example)?.[name] ?? example[name];
}

function show() {
  const example = current();
  const done = state.examples.filter(decisionOf).length;
  by("progress").textContent = fill("progress", {
    at: state.at + 1, n: state.examples.length, done,
  });
  by("bar").value = state.examples.length ? done / state.examples.length : 0;
  if (!example) return;
  by("asked").textContent = fill("asked", { label: example.label });
  const before = [];
  for (const [name, shown] of edits()) {
    shown.textContent = visible(written(example, name) || "");
    if (written(example, name) !== example[name]) before.push(visible(example[name]));
  }
  by("pair").hidden = example.text_pair === null;
  by("before").hidden = !before.length;
  by("before").textContent = before.length ? fill("before", { text: before.join(" ／ ") }) : "";
  const facts = [
    [fill("register"), word("register", example.register)],
    [fill("trust"), `${percent(example.trust)} / ${word("doubt", example.doubt)}`],
  ];
  if (example.register_asked) {
    facts.splice(1, 0, [fill("register_asked"), word("register", example.register_asked)]);
  }
  for (const [name, score] of Object.entries(example.scores || {})) {
    facts.push([word("score", name), `${score} / 5`]);
  }
  for (const [name, value] of Object.entries(example.fields || {})) {
    facts.push([visible(name), value === null ? "–" : visible(String(value))]);
  }
  if (example.rejected) {
    const detail = example.detail ? ` — ${visible(example.detail)}` : "";
    facts.push([fill("rejected"), example.rejected + detail]);
  }
  pairs(by("facts"), facts);
  const decision = decisionOf(example);
  const register = pendingOf(example).register ?? decision?.register ?? example.register;
  by("decided").dataset.verdict = decision ? decision.verdict : "";
  by("decided").textContent = decision
    ? decidedText(decision)
    : fill(Object.keys(pendingOf(example)).length ? "pending" : "undecided");
  by("comment").value = pendingOf(example).comment ?? decision?.comment ?? "";
  by("labels").classList.toggle("second", Boolean(state.second));
  press("#actions button", (b) => decision && b.dataset.verdict === decision.verdict);
  const label = decision?.verdict === "relabel" ? decision.label : example.label;
  const also = decision?.verdict === "both" ? decision.label : label;
  const fitting = state.separator ? label.split(state.separator) : [label, also];
  press("#labels button", (b) => fitting.includes(b.dataset.label));
  press("#registers button", (b) => b.dataset.register === register);
}

function decidedText(decision) {
  const said = word("verdict", decision.verdict);
  const sign = { relabel: " → ", both: "：" }[decision.verdict];
  const label = sign ? sign + decision.label : "";
  const who = decision.reviewer ? ` (${decision.reviewer})` : "";
  return said + label + who;
}

function press(selector, wanted) {
  for (const made of document.querySelectorAll(selector)) {
    made.setAttribute("aria-pressed", String(Boolean(wanted(made))));
  }
}

function showSummary(summary) {
  const share = (found) =>
    found
      ? fill("share", {
          value: percent(found.value), low: percent(found.low),
          high: percent(found.high), covers: percent(found.covers),
        })
      : "–";
  const rows = [[fill("summary.reviewed"), String(summary.reviewed)]];
  // Figures that come early would sway the decisions that are still to come.
  if (summary.reviewed < state.least) {
    rows.push(["", fill("summary.later", { least: state.least })]);
    return pairs(by("summary"), rows);
  }
  const or = (value, shown) => (value === null ? "–" : shown(value));
  pairs(by("summary"), [
    ...rows,
    [fill("summary.accuracy"), share(summary.accuracy)],
    [fill("summary.label_accuracy"), share(summary.label_accuracy)],
    [fill("summary.agreement"), or(summary.agreement, percent)],
    [fill("summary.kappa"), or(summary.kappa, (v) => v.toFixed(2))],
  ]);
}

function notify(text) {
  by("notice").textContent = text;
  by("notice").hidden = !text;
}

// Saves go out one after another, so that a quick second key builds on the first one's number.
function save(example, change) {
  const before = decisionOf(example);
  const wanted = {
    example_id: example.id,
    verdict: before ? before.verdict : "accept",
    label: before ? before.label : null,
    register: before ? before.register : null,
    comment: before ? before.comment : "",
    text: before ? before.text : null,
    text_pair: before ? before.text_pair : null,
    ...pendingOf(example),
    ...change,
  };
  if (!["relabel", "both"].includes(wanted.verdict)) wanted.label = null;
  if (wanted.register === example.register) wanted.register = null;
  for (const [name] of edits()) {
    if (wanted[name] === example[name] || !GOOD.includes(wanted.verdict)) wanted[name] = null;
  }
  state.saving = state.saving.then(() => send(example, wanted));
  return state.saving;
}

async function send(example, wanted) {
  try {
    const answer = await fetch("decisions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...wanted, seen: example.seen }),
    });
    const body = await answer.json();
    if (answer.status === 409) {
      take(example, body.current);
      notify(fill("stale", { text: visible(example.text).slice(0, 30) }));
    } else if (!answer.ok) {
      notify(fill("failed", { why: body.error || answer.status }));
    } else {
      take(example, body.decision);
      example.pending = {};
      showSummary(body.summary);
      notify("");
    }
  } catch {
    notify(fill("unreachable"));
  }
  show();
}

function take(example, decision) {
  example.seen = decision.number;
  example.decision = decision.verdict === "none" ? null : decision;
}

async function decide(change) {
  const example = current();
  if (!example) return;
  state.second = false;
  const comment = by("comment").value;
  await save(example, { comment, ...change });
  const stay = example !== current() || !by("notice").hidden || !by("edit").hidden;
  if (decisionOf(example) && !stay) move(1);
}

function chooseLabel(name) {
  const example = current();
  if (!example) return;
  if (state.second) {
    if (name !== example.label) decide({ verdict: "both", label: name });
    return;
  }
  decide(name === example.label ? { verdict: "accept" } : { verdict: "relabel", label: name });
}

// The label shown fits, and another one does: which is asked next, unless there is but one.
function both() {
  const example = current();
  if (!example) return;
  const others = state.labels.filter((label) => label.name !== example.label);
  if (others.length === 1) return decide({ verdict: "both", label: others[0].name });
  state.second = true;
  show();
  by("decided").textContent = fill("second");
}

// Says nothing for or against the text: it goes out with the verdict, or changes one that is there.
function change(name, value) {
  const example = current();
  if (!example) return;
  pendingOf(example)[name] = value;
  if (decisionOf(example)) save(example, {});
  else show();
}

function nextRegister() {
  const example = current();
  if (!example) return;
  const now = pendingOf(example).register ?? decisionOf(example)?.register ?? example.register;
  const at = state.registers.indexOf(now);
  change("register", state.registers[(at + 1) % state.registers.length]);
}

function edit() {
  const example = current();
  if (!example) return;
  for (const [name, shown, area] of edits()) {
    if (example[name] === null) continue;
    area.value = written(example, name);
    shown.hidden = true;
    area.hidden = false;
  }
  by("edit").focus();
}

function endEdit(keep) {
  const example = current();
  for (const [name, shown, area] of edits()) {
    const text = area.value.trim();
    if (keep && !area.hidden && text && text !== written(example, name)) change(name, text);
    area.hidden = true;
    shown.hidden = example[name] === null;
  }
  by("text").focus();
}

function go(at) {
  if (!by("edit").hidden) endEdit(true);
  state.second = false;
  state.at = Math.min(Math.max(at, 0), state.examples.length - 1);
  show();
}

const move = (steps) => go(state.at + steps);

function nextUndecided() {
  const n = state.examples.length;
  const places = state.examples.map((_, i) => (state.at + 1 + i) % n);
  const found = places.find((place) => !decisionOf(state.examples[place]));
  if (found !== undefined) go(found);
}

function undo() {
  const example = current();
  if (!example) return;
  example.pending = {};
  if (decisionOf(example)) save(example, { verdict: "none" });
  else show();
}

const KEYS = {
  a: () => decide({ verdict: "accept" }),
  r: () => decide({ verdict: "reject" }),
  b: both,
  0: () => decide({ verdict: "neither" }),
  e: edit,
  g: nextRegister,
  u: undo,
  c: () => by("comment").focus(),
  n: nextUndecided,
  j: () => move(1),
  k: () => move(-1),
  ArrowRight: () => move(1),
  ArrowLeft: () => move(-1),
  Escape: () => {
    state.second = false;
    show();
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target === by("comment")) {
    if (event.key === "Escape") by("text").focus();
    return;
  }
  if (event.target === by("edit") || event.target === by("edit-pair")) {
    if (event.key !== "Escape" && !(event.key === "Enter" && !event.shiftKey)) return;
    event.preventDefault();
    endEdit(event.key === "Enter");
    return;
  }
  const digit = Number.parseInt(event.key, 10);
  const act = digit >= 1 && state.labels[digit - 1]
    ? () => chooseLabel(state.labels[digit - 1].name)
    : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

by("comment").addEventListener("change", () => {
  const example = current();
  if (example) change("comment", by("comment").value);
});

function build() {
  document.documentElement.lang = state.language;
  document.title = fill("title");
  for (const [id, key] of [
    ["title", "title"], ["labels-title", "labels"], ["registers-title", "registers"],
    ["comment-title", "comment"], ["summary-title", "summary"], ["keys-title", "keys"],
  ]) by(id).textContent = fill(key);
  by("bar").setAttribute("aria-label", fill("progress.label"));
  by("edit").setAttribute("aria-label", fill("edit"));
  by("edit-pair").setAttribute("aria-label", fill("edit.pair"));
  by("moves").setAttribute("aria-label", fill("moves"));
  by("actions").setAttribute("aria-label", fill("actions"));
  by("actions").append(
    button("a", fill("verdict.accept"), KEYS.a, { "data-verdict": "accept" }),
    button("r", fill("verdict.reject"), KEYS.r, { "data-verdict": "reject" }),
    button("b", fill("verdict.both"), both, { "data-verdict": "both" }),
    button("0", fill("verdict.neither"), KEYS[0], { "data-verdict": "neither" }),
    button("e", fill("edit"), edit),
    button("u", fill("undo"), undo),
  );
  // Beside the text on a wide screen; on a phone they would push everything else away.
  const open = window.matchMedia("(min-width: 60rem)").matches;
  state.labels.forEach((label, i) => {
    const key = i < 9 ? String(i + 1) : "";
    const card = element("div");
    card.append(button(key, label.name, () => chooseLabel(label.name), { "data-label": label.name }));
    if (label.description) card.append(element("p", visible(label.description)));
    if (label.gold.length) {
      const examples = element("details");
      examples.open = open;
      const list = element("ul");
      for (const text of label.gold) list.append(element("li", visible(text)));
      examples.append(element("summary", fill("gold")), list);
      card.append(examples);
    }
    by("labels").append(card);
  });
  for (const name of state.registers) {
    const attributes = { "data-register": name };
    by("registers").append(
      button("", word("register", name), () => change("register", name), attributes),
    );
  }
  by("moves").append(
    button("k", fill("previous"), KEYS.k), button("j", fill("next"), KEYS.j),
    button("n", fill("undecided.next"), nextUndecided),
  );
  for (const key of ["a", "r", "1–9", "b", "0", "e", "g", "c", "u", "n", "j / k"]) {
    const name = element("dt");
    name.append(element("kbd", key));
    by("keys").append(name, element("dd", word("key", key)));
  }
}

async function start() {
  const answer = await fetch("state");
  Object.assign(state, await answer.json());
  build();
  showSummary(state.summary);
  const first = state.examples.findIndex((example) => !decisionOf(example));
  state.at = Math.max(first, 0);
  if (!state.examples.length) notify(fill("empty"));
  show();
  document.body.dataset.ready = "yes";
}

start();
