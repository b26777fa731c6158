"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // The language that is shown is the page's.
  for (const choice of document.querySelectorAll(".switch input")) {
    choice.addEventListener("change", () => { document.documentElement.lang = choice.value; });
    if (choice.checked) document.documentElement.lang = choice.value;
  }

  // What a mark of a chart stands for.
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("[data-tip]");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip.split("\t")[0];
    const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(box.left + box.width / 2 - own.width / 2, 8),
      document.documentElement.clientWidth - own.width - 8);
    tip.style.left = `${left}px`;
    tip.style.top = `${box.top > own.height + 12 ? box.top - own.height - 8 : box.bottom + 8}px`;
  });

  const packed = byId("records");
  if (!packed) return;
  let loading;
  const load = () => loading ??= unpack();

  async function unpack() {
    const bytes = Uint8Array.from(atob(packed.textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const { columns, requests } = await new Response(stream).json();
    const rows = columns.id.map((_, i) => {
      const row = Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, column[i]]));
      row.state = row.reason ? "rejected" : "kept";
      row.length = [...row.text].length + (row.pair ? [...row.pair].length : 0);
      row.request = requests[row.request] ?? {};
      row.children = [];
      return row;
    });
    const known = new Map(rows.map((row) => [row.id, row]));
    for (const row of rows) known.get(row.parent)?.children.push(row.id);
    return rows;
  }

  const plain = (text) => (text ?? "").normalize("NFKC").toLowerCase();
  const PAGE = 10;
  const browsers = [...document.querySelectorAll(".browser")].map(browse);

  // A dot of the map opens its text.
  document.addEventListener("click", (event) => {
    const id = event.target.closest("[data-tip]")?.dataset.tip.split("\t")[1];
    if (id) for (const show of browsers) show(id);
  });

  function browse(root) {
    const field = (name) => root.querySelector(`[name="${name}"]`);
    const list = root.querySelector(".records"), said = root.querySelector(".found");
    const fold = root.closest("details"), filters = [...root.querySelectorAll("[data-filter]")];
    const names = Object.fromEntries(filters.map((select) => [
      select.name, new Map([...select.options].map((option) => [option.value, option.text]))]));
    const named = (column, code) => (code && names[column]?.get(code)) ?? code;
    let page = 0, only = "";
    root.hidden = false;

    async function show() {
      const rows = await load();
      const wanted = plain(field("search").value).split(/\s+/).filter(Boolean);
      let found = rows.filter((row) => filters.every((s) => !s.value || row[s.name] === s.value)
        && (!only || row.id === only));
      if (wanted.length) found = found.filter((row) => {
        row.plain ??= plain(`${row.text} ${row.pair ?? ""} ${row.id}`);
        return wanted.every((word) => row.plain.includes(word));
      });
      const order = field("order").value, column = order.replace("-", "");
      if (order) found = found.toSorted((a, b) =>
        (order.startsWith("-") ? -1 : 1) * (a[column] - b[column]));
      const pages = Math.max(Math.ceil(found.length / PAGE), 1);
      page = Math.min(Math.max(page, 0), pages - 1);
      list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(record));
      said.textContent = said.dataset.text.replace("{n}", found.length.toLocaleString())
        .replace("{page}", page + 1).replace("{pages}", pages);
      root.querySelector("[name=before]").disabled = page === 0;
      root.querySelector("[name=after]").disabled = page === pages - 1;
      if (only) list.querySelector("details").open = true;
    }

    function record(row) {
      const item = root.querySelector(".record").content.cloneNode(true);
      const put = (name, value) => {
        for (const place of item.querySelectorAll(`[data-field="${name}"]`)) place.textContent = value;
      };
      put("text", row.text || root.dataset.empty);
      put("pair", row.pair ?? "");
      put("label", row.label);
      put("state", row.reason ? named("reason", row.reason) : named("state", "kept"));
      item.querySelector("li").classList.add(row.state);
      put("weight", row.weight.toFixed(2));
      const details = item.querySelector("details"), body = details.querySelector("dl");
      details.addEventListener("toggle", () => {
        if (!details.open || body.children.length) return;
        const asked = row.request, number = (value) => value == null ? "" : String(+value.toFixed(3));
        const rejected = row.reason && `${named("reason", row.reason)} (${number(row.value)} / ${number(row.threshold)})`;
        const facts = {
          rejected, detail: row.detail, label_asked: row.label_asked,
          register: [named("register", row.register_asked), named("register", row.register)].filter(Boolean).join(" → "),
          confidence: number(row.confidence), weight: number(row.weight), source: row.source,
          generator: asked.generator, template: asked.template, seed: asked.seed, round: row.round + 1,
          shots: asked.shots, seed_row: row.seed_row, derived: row.derived, parent: row.parent,
          children: row.children.join("、"), overlap: number(row.overlap), copied: row.copied,
          personal: (row.personal ?? []).join("、"), id: row.id, prompt: asked.prompt, answer: asked.answer,
        };
        for (const [name, value] of Object.entries(facts)) {
          if (value == null || value === "") continue;
          const title = document.createElement("dt"), content = document.createElement("dd");
          title.textContent = root.querySelector(`[data-title="${name}"]`).textContent;
          const words = content.appendChild(document.createElement("bdi"));
          words.className = name === "prompt" || name === "answer" ? "quoted long" : "quoted";
          words.textContent = value;
          if (name === "parent") {
            const jump = content.appendChild(document.createElement("button"));
            jump.type = "button";
            jump.textContent = root.dataset.open;
            jump.addEventListener("click", () => go(value));
          }
          body.append(title, content);
        }
      });
      return item;
    }

    function go(id) {
      for (const select of filters) select.value = "";
      field("search").value = "";
      only = id;
      page = 0;
      fold.open = true;
      if (root.checkVisibility()) root.scrollIntoView({ block: "start" });
      show();
    }

    const anew = () => { only = ""; page = 0; show(); };
    for (const select of [...filters, field("order")]) select.addEventListener("change", anew);
    field("search").addEventListener("input", anew);
    root.querySelector("[name=before]").addEventListener("click", () => { page -= 1; show(); });
    root.querySelector("[name=after]").addEventListener("click", () => { page += 1; show(); });
    fold.addEventListener("toggle", () => { if (fold.open && !list.children.length) show(); });
    if (fold.open) show();
    return go;
  }
})();
