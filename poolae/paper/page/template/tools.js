// The reader's tools: one that moves an error bound over curves and a picture, and one that
// colours photographs. Both read their data from the page.

const byId = (id) => document.getElementById(id);
const readData = (name) => JSON.parse(byId(`data-${name}`).textContent);
const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

function make(name, attributes = {}, ...children) {
  const isSvg = ["svg", "g", "line", "path", "text", "circle"].includes(name);
  const element = isSvg
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Curves --------------------------------------------------------------------------------------

// Draw the lines once; what comes back moves the mark, shows and hides lines, and says which
// bound is under a pointer.
function drawCurves(box, { bounds, lines }, narrow) {
  const [width, height] = narrow ? [360, 280] : [640, 320];
  const [left, right, top, bottom] = [46, width - 18, 8, height - 42];
  const last = bounds.at(-1);
  const x = (bound) => left + (bound / last) * (right - left);
  const y = (share) => bottom - share * (bottom - top);
  const label = (at, text, anchor) => make("text", { ...at, "text-anchor": anchor }, text);
  const svg = make("svg", {
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": "Curves of accuracy against error bound; the list below has their values",
  });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const at = y(share);
    svg.append(make("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    svg.append(label({ x: left - 6, y: at + 4 }, `${100 * share}\u00a0%`, "end"));
  }
  for (let k = 0; k <= 5; k++) {
    const bound = (last * k) / 5;
    svg.append(label({ x: x(bound), y: bottom + 17 }, bound.toFixed(2), "middle"));
  }
  svg.append(label({ x: (left + right) / 2, y: height - 6 }, "bound on the error", "middle"));
  const mark = make("line", { class: "mark", y1: top, y2: bottom });
  svg.append(mark);
  const groups = lines.map(({ colour, dash, accuracy }) => {
    const points = bounds.map((bound, k) => `${x(bound).toFixed(1)},${y(accuracy[k]).toFixed(1)}`);
    const path = make("path", { d: `M${points.join("L")}`, "stroke-dasharray": dash });
    const group = make("g", { class: "line" }, path, make("circle", { r: 4 }));
    if (colour) group.style.color = colour;
    svg.append(group);
    return group;
  });
  box.replaceChildren(svg);
  return {
    svg,
    setBound(index) {
      for (const end of ["x1", "x2"]) mark.setAttribute(end, x(bounds[index]));
      groups.forEach((group, k) => {
        group.lastChild.setAttribute("cx", x(bounds[index]));
        group.lastChild.setAttribute("cy", y(lines[k].accuracy[index]));
      });
    },
    setShown(k, shown) {
      groups[k].classList.toggle("off", !shown);
    },
    boundAt(event) {
      const area = svg.getBoundingClientRect();
      const place = ((event.clientX - area.left) / area.width) * width;
      const share = Math.min(Math.max((place - left) / (right - left), 0), 1);
      return Math.round(share * (bounds.length - 1));
    },
  };
}

// A box to tick for each line, with its value at the bound.
function addLegend(box, lines, onToggle) {
  return lines.map(({ name, colour, dash }, k) => {
    const tick = make("input", { type: "checkbox", checked: "" });
    const path = make("path", { d: "M0,6H26", "stroke-dasharray": dash });
    const swatch = make("svg", { viewBox: "0 0 26 12", "aria-hidden": "true" });
    swatch.append(make("g", { class: "line" }, path));
    if (colour) swatch.firstChild.style.color = colour;
    const value = make("span", { class: "value" });
    box.append(make("label", {}, tick, swatch, make("span", {}, name), value));
    tick.addEventListener("change", () => onToggle(k, tick.checked));
    return { tick, value };
  });
}

// Paint over the picture, pixel by pixel, where both errors or one are within the bound; return
// the share of values that are. Errors are thousandths, rounded up: of a for all pixels, then b.
function paintWithin(canvas, errors, bound, colour) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const n = width * height;
  let within = 0;
  context.clearRect(0, 0, width, height);
  context.fillStyle = colour;
  for (let i = 0; i < n; i++) {
    const count = (errors[i] <= bound) + (errors[n + i] <= bound);
    within += count;
    context.globalAlpha = [0, 0.35, 0.85][count];
    if (count) context.fillRect(i % width, Math.floor(i / width), 1, 1);
  }
  return within / (2 * n);
}

function addExplorer() {
  const { curves, samples } = readData("explorer");
  const slider = byId("explorer-bound");
  slider.max = curves.bounds.length - 1;
  slider.value = Math.round(slider.max / 5);
  const small = matchMedia("(max-width: 40rem)");
  const narrow = () => small.matches;
  let drawn;
  const legend = addLegend(byId("explorer-legend"), curves.lines, (k, on) => drawn.setShown(k, on));

  const update = () => {
    const bound = curves.bounds[slider.value];
    drawn.setBound(slider.value);
    byId("explorer-bound-value").value = bound.toFixed(3);
    curves.lines.forEach((line, k) => {
      legend[k].value.textContent = percent(line.accuracy[slider.value]);
    });
    const share = samples?.length ? updatePicture(samples, curves, bound) : "";
    slider.setAttribute("aria-valuetext", `${bound.toFixed(3)}${share && `, ${share}`}`);
  };
  const draw = () => {
    drawn = drawCurves(byId("explorer-curves"), curves, narrow());
    legend.forEach(({ tick }, k) => drawn.setShown(k, tick.checked));
    for (const kind of ["pointermove", "pointerdown"]) {
      drawn.svg.addEventListener(kind, (event) => {
        slider.value = drawn.boundAt(event);
        update();
      });
    }
    update();
  };
  if (samples?.length) {
    const picker = byId("explorer-sample");
    samples.forEach(({ name }, k) => picker.append(new Option(name, k)));
    byId("explorer-network").max = samples[0].networks.length - 1;
    byId("explorer-network").value = 0;
    for (const id of ["explorer-sample", "explorer-network"]) {
      byId(id).addEventListener("input", update);
    }
  }
  slider.addEventListener("input", update);
  small.addEventListener("change", draw);
  draw();
}

// Show the chosen picture as the chosen network colours it, and say what share is within.
function updatePicture(samples, curves, bound) {
  const sample = samples[byId("explorer-sample").value];
  const slider = byId("explorer-network");
  const network = sample.networks[slider.value];
  slider.setAttribute("aria-valuetext", network.name);
  byId("explorer-network-name").value = network.name;
  byId("explorer-prediction-name").textContent = network.name;
  for (const [id, source] of [
    ["explorer-truth", sample.truth],
    ["explorer-prediction", network.picture],
    ["explorer-lightness", sample.lightness],
  ]) {
    if (byId(id).src !== source) byId(id).src = source;
  }
  const canvas = byId("explorer-within");
  if (canvas.width !== sample.width) canvas.width = sample.width;
  if (canvas.height !== sample.height) canvas.height = sample.height;
  const colour = curves.lines.find(({ name }) => name === network.name)?.colour ?? "#0072b2";
  const errors = Uint8Array.from(atob(network.errors), (c) => c.charCodeAt(0));
  const share = `${percent(paintWithin(canvas, errors, Math.round(1000 * bound), colour))} within`;
  byId("explorer-share").textContent = share;
  canvas.setAttribute("aria-label", `Pixels within the bound: ${share}`);
  return share;
}

// A photograph of the reader's own ------------------------------------------------------------

const LONGEST = 480; // pixels of the longer side; what is larger is shrunk
const MOST = 12e6; // pixels of a picture that is saved; what is larger is shrunk

function startWorker() {
  const source = byId("data-colouriser").textContent;
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url);
  worker.postMessage({ networks: readData("networks") });
  return worker;
}

// Read an image, from a file or an element, as pixels over white, to be shown or to be saved.
async function readPixels(source, saved = false) {
  const bitmap = await createImageBitmap(source);
  const { width, height } = bitmap;
  const fitting = saved ? Math.sqrt(MOST / (width * height)) : LONGEST / Math.max(width, height);
  const scale = Math.min(1, fitting);
  const size = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(scale * side)));
  const canvas = make("canvas", { width: size[0], height: size[1] });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, ...size);
  context.drawImage(bitmap, 0, 0, ...size);
  return context.getImageData(0, 0, ...size);
}

// Paint pixels and hand them to the reader as a PNG.
function save({ pixels, width, height, file }) {
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  canvas.toBlob((blob) => {
    const href = URL.createObjectURL(blob);
    make("a", { href, download: file }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60_000);
  });
}

function addPhotographs() {
  const status = byId("photograph-status");
  const results = byId("photograph-results");
  const networks = readData("networks");
  const choice = byId("photograph-networks");
  const chosen = () => choice?.value ?? networks[0].of;
  let worker;
  let job = 0; // the latest; answers to others come too late
  let began;
  let shown; // what the pictures are of

  const addPicture = (image, text, description) => {
    const canvas = make("canvas", { width: image.width, height: image.height, role: "img" });
    canvas.setAttribute("aria-label", description);
    canvas.getContext("2d").putImageData(image, 0, 0);
    const item = make("li", {}, canvas, make("span", {}, text));
    results.append(item);
    return item;
  };
  const addDownload = (item, { name, chroma }) => {
    const { source, title } = shown;
    const button = make("button", { type: "button" }, "Download");
    button.setAttribute("aria-label", `Download the photograph as ${name} colours it`);
    button.addEventListener("click", async () => {
      status.textContent = "Colouring at full size \u2026";
      const file = `${title.replace(/\.[^.]*$/, "")}-${name}.png`;
      try {
        const { data: pixels, width, height } = await readPixels(source, true);
        worker.postMessage({ job, pixels, width, height, chroma, file });
      } catch {
        status.textContent = `${title} can no longer be read.`;
      }
    });
    item.append(button);
  };
  const receive = ({ data }) => {
    if (data.file) {
      save(data);
      status.textContent = `${data.file}: ${data.width} × ${data.height} pixels.`;
      return;
    }
    if (data.job !== job) return;
    const image = new ImageData(data.pixels, data.width, data.height);
    if (data.name === null) {
      addPicture(image, "lightness", "The photograph's lightness");
      return;
    }
    const text = `${data.name}, error ${data.error.toFixed(3)}`;
    addDownload(addPicture(image, text, `The photograph as ${data.name} colours it`), data);
    if (data.name !== networks.findLast(({ of }) => of === chosen()).name) return;
    status.textContent = `Coloured in ${((performance.now() - began) / 1000).toFixed(1)} s.`;
  };
  const begin = async (source, name) => {
    const mine = ++job;
    results.replaceChildren();
    status.textContent = "Colouring \u2026";
    let image;
    try {
      image = await readPixels(source);
    } catch {
      if (mine === job) status.textContent = `${name} is not an image that this browser can read.`;
      return;
    }
    if (mine !== job) return;
    shown = { source, title: name };
    began = performance.now();
    if (!worker) {
      worker = startWorker();
      worker.onmessage = receive;
      worker.onerror = (event) => {
        status.textContent = `This browser cannot run the networks: ${event.message}`;
      };
    }
    addPicture(image, "photograph", "The photograph in its own colours");
    const { data: pixels, width, height } = image;
    worker.postMessage({ job, pixels, width, height, of: chosen() });
  };

  choice?.addEventListener("change", () => shown && begin(shown.source, shown.title));
  const file = byId("photograph-file");
  file.addEventListener("change", () => file.files[0] && begin(file.files[0], file.files[0].name));
  for (const button of document.querySelectorAll("#photograph .choices button")) {
    const image = button.querySelector("img");
    button.addEventListener("click", () => begin(image, button.textContent.trim()));
  }
  const area = byId("photograph");
  // Beside the area a dropped file would replace the page.
  addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.toggle("over", area.contains(event.target));
  });
  addEventListener("dragleave", () => area.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    const dropped = event.dataTransfer.files[0];
    if (dropped && area.contains(event.target)) begin(dropped, dropped.name);
  });
}

document.addEventListener("DOMContentLoaded", () => {
  if (byId("data-explorer")) addExplorer();
  if (byId("data-networks")) addPhotographs();
});
