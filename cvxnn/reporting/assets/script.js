"use strict";
/* Puts texts in their places when the slider moves or a sample is chosen. All of them were written, and all
   numbers computed, when the report was made; names of columns and classes enter as text, never as HTML. */
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";

  function make(tag, words, kind) {
    const node = document.createElement(tag);
    if (words !== undefined) node.textContent = words;
    if (kind) node.className = kind;
    return node;
  }

  /* A signed length from -100 to 100 as a bar from the middle; its number stands beside it. */
  function balance(share) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 10");
    svg.setAttribute("class", "balance");
    svg.setAttribute("aria-hidden", "true");
    const axis = document.createElementNS(SVG, "line");
    for (const [key, value] of [["x1", 50], ["x2", 50], ["y1", 0], ["y2", 10]]) axis.setAttribute(key, value);
    axis.setAttribute("class", "axis");
    const half = Math.abs(share) / 2;
    const bar = document.createElementNS(SVG, "rect");
    bar.setAttribute("x", share >= 0 ? 50 : 50 - half);
    bar.setAttribute("y", 1.5);
    bar.setAttribute("width", half);
    bar.setAttribute("height", 7);
    bar.setAttribute("class", share >= 0 ? "plus" : "minus");
    svg.append(axis, bar);
    return svg;
  }

  function bars(caption, head, rows) {
    const table = make("table", undefined, "bars");
    table.append(make("caption", caption));
    const top = make("tr");
    for (const name of head) {
      const cell = make("th", name);
      cell.scope = "col";
      top.append(cell);
    }
    const first = make("thead");
    first.append(top);
    const body = make("tbody");
    for (const [name, amount, share, slope, neuron] of rows) {
      const row = make("tr");
      const header = make("th", neuron ? undefined : name);
      header.scope = "row";
      if (neuron) {
        const link = make("a", name);
        link.href = "#neuron-" + neuron;
        header.append(link);
      }
      const cell = make("td");
      cell.append(balance(share), make("span", amount));
      row.append(header, cell);
      if (head.length > 2) row.append(make("td", slope));
      body.append(row);
    }
    table.append(first, body);
    return table;
  }

  /* The path. */
  const slider = byId("alpha");
  function showPoint() {
    const point = report.points[Number(slider.value)];
    slider.setAttribute("aria-valuetext", point.said);
    for (const [key, words] of Object.entries(point.text)) {
      const place = byId("at-" + key);
      if (place) place.textContent = words;
    }
    byId("at-mine").hidden = !point.mine;
    for (const cursor of document.querySelectorAll(".cursor")) {
      cursor.setAttribute("x1", point.x);
      cursor.setAttribute("x2", point.x);
    }
    if (point.image) document.querySelector("#path-picture .map").setAttribute("href", point.image);
    if (point.curves) {
      const curves = document.querySelectorAll("#path-picture .curves path");
      point.curves.forEach((d, k) => curves[k].setAttribute("d", d));
    }
    const list = byId("path-neurons");
    list.replaceChildren(...point.neurons.map((neuron) => {
      const item = make("li");
      item.append(make("span", neuron.rule, "rule"), make("span", neuron.fires + "; " + neuron.effect + ".", "note"));
      item.append(make("span", neuron.share + " of what moves the output", "note"));
      return item;
    }));
    if (point.more) list.append(make("li", point.more, "more"));
  }
  if (slider) {
    slider.addEventListener("input", showPoint);
    showPoint();
  }

  /* A sample. */
  const chooser = byId("sample");
  const output = byId("output");
  function showSample(follow) {
    const sample = report.samples[Number(chooser.value)];
    if (output) {
      for (const option of output.options) option.disabled = !(option.value in sample.by);
      if (follow || !(output.value in sample.by)) output.value = String(sample.first);
    }
    const one = sample.by[output ? output.value : "0"];
    const verdict = byId("verdict");
    verdict.textContent = sample.verdict;
    verdict.classList.toggle("wrong", sample.right === false);
    byId("by-neurons").textContent = sample.fired + " " + one.constant + ".";
    byId("parts").replaceChildren(bars("What neurons add: " + one.what, ["neuron", "adds"], one.parts));
    if (one.terms) {
      byId("by-columns").textContent = one.base + ". Each value then adds its difference from the average times the slope here.";
      byId("terms").replaceChildren(bars("What columns add: " + one.what, ["column", "adds", "slope"], one.terms));
    }
  }
  if (chooser && report.samples.length) {
    chooser.addEventListener("change", () => showSample(true));
    if (output) output.addEventListener("change", () => showSample(false));
    showSample(true);
  }

  /* A link to a neuron behind a button opens it. */
  window.addEventListener("hashchange", () => {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    const hidden = target && target.closest("details:not([open])");
    if (hidden) {
      hidden.open = true;
      target.scrollIntoView();
    }
  });

  /* On paper everything is open. */
  const opened = [];
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not([open])")) {
      if (part.querySelector("table.weights") || part.querySelector("article")) continue;
      part.open = true;
      opened.push(part);
    }
  });
  window.addEventListener("afterprint", () => {
    for (const part of opened.splice(0)) part.open = false;
  });
})();
