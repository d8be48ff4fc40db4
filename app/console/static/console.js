// What pages do beyond links and forms. Everything works without it but charts, copying and the theme's button.
"use strict";

// Looked for each time: after "back" htmx has put another in its place.
const findToast = () => document.getElementById("toast");

function say(text) {
  const toast = findToast();
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { findToast().hidden = true; }, 4000);
}

function toggleTheme() {
  const root = document.documentElement;
  root.dataset.bsTheme = root.dataset.bsTheme === "dark" ? "light" : "dark";
  document.cookie = `kadun_theme=${root.dataset.bsTheme}; path=/admin; max-age=31536000; samesite=strict; secure`;
  drawCharts(document);
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    say(findToast().dataset.copied);
  } catch {
    source.hidden = false;
    source.focus();
    source.select?.();
  }
}

// What people know a card by: of an imported one its old key.
const chosen = (name) => [...document.querySelectorAll(`input[name="${name}"]:checked`)].map((box) => box.dataset.key ?? box.value);

// How many boxes are chosen is told, and what acts on them waits for the first.
function countChosen() {
  for (const count of document.querySelectorAll("[data-count]")) count.value = chosen(count.dataset.count).length;
  for (const bar of document.querySelectorAll("[data-needs]")) {
    for (const button of bar.querySelectorAll("button")) button.disabled = !chosen(bar.dataset.needs).length;
  }
}

function shortened(text) {
  return text.length > 16 ? `${text.slice(0, 15)}…` : text;
}

// <canvas data-chart='{"type": …, "labels": […], "series": [{"name": …, "values": […], "links": […], "color": "--css-variable"}]}'>
// A series has a link for each value, and one color or "colors", one each.
function drawCharts(within) {
  if (!window.Chart) return;
  for (const chart of Object.values(Chart.instances)) if (!chart.canvas.isConnected) chart.destroy();
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  for (const canvas of within.querySelectorAll("canvas[data-chart]")) {
    Chart.getChart(canvas)?.destroy();
    const spec = JSON.parse(canvas.dataset.chart);
    const round = spec.type === "doughnut";
    const linkOf = ([hit]) => hit && spec.series[hit.datasetIndex].links[hit.index];
    const axis = (isCategory) => ({
      stacked: !!spec.stacked,
      beginAtZero: true,
      grid: { color: color("--bs-border-color"), display: !isCategory },
      ticks: {
        color: color("--bs-secondary-color"),
        precision: 0,
        maxRotation: 0,
        ...(isCategory && { callback(value) { return shortened(this.getLabelForValue(value)); } }),
      },
    });
    new Chart(canvas, {
      type: spec.type,
      data: {
        labels: spec.labels,
        datasets: spec.series.map((series) => ({
          label: series.name,
          data: series.values,
          backgroundColor: series.colors ? series.colors.map(color) : color(series.color),
          borderColor: round ? color("--bs-body-bg") : color(series.color),
          cubicInterpolationMode: "monotone", // else a curve dips below none
          borderRadius: round ? 0 : 3,
          maxBarThickness: 40,
        })),
      },
      options: {
        maintainAspectRatio: false,
        animation: false,
        color: color("--bs-body-color"),
        indexAxis: spec.horizontal ? "y" : "x",
        plugins: { legend: { display: round || spec.series.length > 1, position: round ? "right" : "top", labels: { color: color("--bs-body-color"), boxWidth: 12, boxHeight: 12 } } },
        scales: round ? {} : { x: axis(!spec.horizontal), y: axis(spec.horizontal) },
        // Where a label has one value, its whole stripe is to be hit, not only a bar that may be a pixel high.
        interaction: round || spec.series.length > 1
          ? { mode: "nearest", intersect: true }
          : { mode: "index", intersect: false, axis: spec.horizontal ? "y" : "x" },
        onHover: (event, hit) => { event.native.target.style.cursor = linkOf(hit) ? "pointer" : "default"; },
        onClick: (_event, hit) => { if (linkOf(hit)) location.assign(linkOf(hit)); },
      },
    });
  }
}

// On a phone the menu and the overview's panels are folded until a button opens them.
function open(button) {
  const part = document.getElementById(button.dataset.opens);
  const isOpen = part.classList.toggle("opened");
  button.setAttribute("aria-expanded", isOpen);
  if (isOpen) drawCharts(part);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.opens) open(button);
  if (button?.hasAttribute("data-theme-toggle")) toggleTheme();
  if (button?.dataset.copyChosen) document.getElementById(button.dataset.copy).value = chosen(button.dataset.copyChosen).join("\n");
  if (button?.dataset.copy) copy(button);
});

// The box above a list chooses all of its boxes.
document.addEventListener("change", (event) => {
  const all = event.target.dataset?.chooseAll;
  if (all) for (const box of document.querySelectorAll(`input[name="${all}"]`)) box.checked = event.target.checked;
  countChosen();
});

// Lines to copy have this server's address: no page says the host that its request names.
for (const lines of document.querySelectorAll("[data-address]")) {
  lines.value = lines.value.replace(lines.dataset.address, location.origin);
}

// A file too large is not even sent.
document.addEventListener("change", ({ target }) => {
  if (target.dataset?.mostBytes && target.files[0]?.size > Number(target.dataset.mostBytes)) {
    target.value = "";
    say(target.dataset.tooLarge);
  }
});

// Whoever types a length of their own means it, until they choose another: told before htmx reads the form.
document.addEventListener("input", (event) => {
  const choice = document.getElementById(event.target.dataset?.chooses);
  if (choice) choice.checked = true;
});
document.addEventListener("change", ({ target }) => {
  const other = target.type === "radio" && target.form?.elements[`${target.name}_other`];
  if (other && target.value !== "other") other.value = "";
}, true);

// A form is sent once, however often its button is pressed; a download keeps its button. After a few seconds it may be
// sent again, by whoever stopped it: no event tells of that. What acts on cards takes effect once, however often it comes.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || form.hasAttribute("data-repeatable")) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  setTimeout(() => { delete form.dataset.sent; }, 5000);
});
addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.sent; countChosen(); });

// Filters that say nothing stay out of the address.
document.addEventListener("htmx:configRequest", ({ detail }) => {
  if (detail.verb !== "get") return;
  for (const [name, value] of [...detail.formData]) if (value === "") detail.formData.delete(name);
});

// The link to the other language leads to the page as it is now.
document.addEventListener("htmx:pushedIntoHistory", () => {
  const link = document.querySelector("a[data-language]");
  const here = new URL(location.href);
  here.searchParams.set("lang", link.dataset.language);
  link.href = here.pathname + here.search;
});
// Whoever pressed a way that the new page has no longer goes on from its list, not from the top of the page.
document.addEventListener("htmx:afterSettle", ({ target }) => {
  if (target.id === "results" && document.activeElement === document.body) target.focus({ preventScroll: true });
});
document.addEventListener("htmx:responseError", () => say(findToast().dataset.failed));
document.addEventListener("htmx:sendError", () => say(findToast().dataset.failed));
document.addEventListener("htmx:load", (event) => { drawCharts(event.target); countChosen(); });
drawCharts(document);
countChosen();
