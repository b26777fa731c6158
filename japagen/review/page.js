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

function show() {
  const example = current();
  const done = state.examples.filter(decisionOf).length;
  by("progress").textContent = fill("progress", {
    at: state.at + 1, n: state.examples.length, done,
  });
  by("bar").value = state.examples.length ? done / state.examples.length : 0;
  if (!example) return;
  by("asked").textContent = fill("asked", { label: example.label });
  by("text").textContent = visible(example.text);
  by("pair").hidden = example.text_pair === null;
  by("pair").textContent = visible(example.text_pair || "");
  const facts = [
    [fill("register"), word("register", example.register)],
    [fill("trust"), `${percent(example.trust)} (${word("doubt", example.doubt)})`],
  ];
  if (example.register_asked) {
    facts.splice(1, 0, [fill("register_asked"), word("register", example.register_asked)]);
  }
  if (example.rejected) {
    const detail = example.detail ? ` — ${visible(example.detail)}` : "";
    facts.push([fill("rejected"), example.rejected + detail]);
  }
  pairs(by("facts"), facts);
  const decision = decisionOf(example);
  by("decided").dataset.verdict = decision ? decision.verdict : "";
  by("decided").textContent = decision ? decidedText(decision) : fill("undecided");
  by("comment").value = decision ? decision.comment : "";
  press("#actions button", (b) => decision && b.dataset.verdict === decision.verdict);
  press("#labels button", (b) => b.dataset.label === (decision?.label ?? example.label));
  press("#registers button", (b) => b.dataset.register === (decision?.register ?? example.register));
}

function decidedText(decision) {
  const said = word("verdict", decision.verdict);
  const label = decision.verdict === "relabel" ? ` → ${decision.label}` : "";
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
  const or = (value, shown) => (value === null ? "–" : shown(value));
  pairs(by("summary"), [
    [fill("summary.reviewed"), String(summary.reviewed)],
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
    ...change,
  };
  if (wanted.verdict !== "relabel") wanted.label = null;
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
  const comment = by("comment").value;
  await save(example, { comment, ...change });
  if (decisionOf(example) && example === current() && by("notice").hidden) move(1);
}

function relabel(name) {
  const example = current();
  if (!example) return;
  decide(name === example.label ? { verdict: "accept" } : { verdict: "relabel", label: name });
}

function setRegister(name) {
  const example = current();
  if (!example) return;
  // Correcting the register says nothing against the text or its label.
  save(example, {
    register: name === example.register ? null : name,
    comment: by("comment").value,
  });
}

function nextRegister() {
  const example = current();
  if (!example) return;
  const now = decisionOf(example)?.register ?? example.register;
  const at = state.registers.indexOf(now);
  setRegister(state.registers[(at + 1) % state.registers.length]);
}

function move(by_) {
  state.at = Math.min(Math.max(state.at + by_, 0), state.examples.length - 1);
  show();
}

function undo() {
  const example = current();
  if (example && decisionOf(example)) save(example, { verdict: "none" });
}

const KEYS = {
  a: () => decide({ verdict: "accept" }),
  r: () => decide({ verdict: "reject" }),
  g: nextRegister,
  u: undo,
  c: () => by("comment").focus(),
  j: () => move(1),
  k: () => move(-1),
  ArrowRight: () => move(1),
  ArrowLeft: () => move(-1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target === by("comment")) {
    if (event.key === "Escape") by("text").focus();
    return;
  }
  const digit = Number.parseInt(event.key, 10);
  const act = digit >= 1 && state.labels[digit - 1]
    ? () => relabel(state.labels[digit - 1].name)
    : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

by("comment").addEventListener("change", () => {
  const example = current();
  const decision = example && decisionOf(example);
  if (decision) save(example, { comment: by("comment").value });
});

function build() {
  document.documentElement.lang = state.language;
  document.title = fill("title");
  for (const [id, key] of [
    ["title", "title"], ["labels-title", "labels"], ["registers-title", "registers"],
    ["comment-title", "comment"], ["summary-title", "summary"], ["keys-title", "keys"],
  ]) by(id).textContent = fill(key);
  by("actions").append(
    button("a", fill("verdict.accept"), KEYS.a, { "data-verdict": "accept" }),
    button("r", fill("verdict.reject"), KEYS.r, { "data-verdict": "reject" }),
    button("u", fill("undo"), undo),
  );
  state.labels.forEach((label, i) => {
    const attributes = { "data-label": label.name, title: label.description };
    const key = i < 9 ? String(i + 1) : "";
    by("labels").append(button(key, label.name, () => relabel(label.name), attributes));
  });
  for (const name of state.registers) {
    const attributes = { "data-register": name };
    by("registers").append(
      button("", word("register", name), () => setRegister(name), attributes),
    );
  }
  by("moves").append(
    button("k", fill("previous"), KEYS.k), button("j", fill("next"), KEYS.j),
  );
  for (const key of ["a", "r", "1–9", "g", "c", "u", "j / k"]) {
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
