// The explorer of a page: sliders over a sweep's points, and a step's memory and operations to zoom into.
(() => {
  "use strict";
  // A page of two parts has two of these: each has its own ids.
  const root = document.currentScript.closest(".explorer"), whose = root.dataset.whose;
  const data = JSON.parse(document.getElementById(whose + "explorer-data").textContent);
  const find = (id) => document.getElementById(whose + id);
  const rows = data.rows, nothing = data.nothing;
  const COMPUTE = 0, HAIR = 0.7, DETAIL = 14;

  // Numbers as Loadahead prints them everywhere: four significant digits, halves to the even one.
  function fourDigits(x) {
    if (x === 0) return "0";
    const exponent = Math.floor(Math.log10(Math.abs(x)));
    const scaled = x * 10 ** (3 - exponent), floor = Math.floor(scaled);
    if (scaled - floor === 0.5 && floor % 2 === 0) return String(Number((floor / 10 ** (3 - exponent)).toPrecision(4)));
    return String(Number(x.toPrecision(4)));
  }
  function inUnits(amount, units, smallest) {
    for (const [name, factor] of units) {
      if (Math.abs(amount) >= factor) {
        const x = amount / factor;
        return (Math.abs(amount) < 9999 * factor ? fourDigits(x) : String(Math.round(x))) + " " + name;
      }
    }
    return Math.round(amount) + " " + smallest;
  }
  const BYTES = [["PiB", 2 ** 50], ["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]];
  const TIMES = [["s", 1e9], ["ms", 1e6], ["us", 1e3]];
  const bytes = (n) => inUnits(n, BYTES, "B");
  const time = (ns) => inUnits(ns, TIMES, "ns");
  const percent = (share) => (100 * share).toFixed(1) + " %";
  const number = (x) => (x >= 9999 ? x.toFixed(0) : fourDigits(x));
  const signed = (x, show) => (x === 0 ? "the same" : (x > 0 ? "+" : "−") + show(Math.abs(x)));
  const relative = (a, b) => (a === b ? "the same" : b ? signed((a - b) / b, percent) : nothing);
  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
  const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

  // ---- the sweep's points
  const column = (name, i) => (Array.isArray(rows.columns[name]) ? rows.columns[name][i] : rows.columns[name]);
  const modelOf = (i) => data.models[Array.isArray(rows.model) ? rows.model[i] : rows.model] || data.models[0];
  const microbatches = (i) => (Array.isArray(rows.microbatches) ? rows.microbatches[i] : rows.microbatches);
  const missingDevice = (i) => missing(column("peak_device_bytes", i), column("capacity_bytes", i));
  const missingHost = (i) => missing(column("host_bytes", i), column("host_capacity_bytes", i));
  const missing = (needed, capacity) => (capacity === null ? 0 : Math.max(0, needed - capacity));
  const fits = (i) => !missingDevice(i) && !missingHost(i);
  const perMicrobatch = (i) => (column("step_time_ns", i) * (column("gpus", i) || 1)) / microbatches(i);
  const speed = (i) => (column("step_time_ns", i) ? 1e9 / perMicrobatch(i) : null);
  const key = (places) => places.join(",");
  const placesOf = (i) => rows.places.map((places) => places[i]);
  const rowAt = new Map();
  for (let i = 0; i < rows.count; i++) rowAt.set(key(placesOf(i)), i);
  const onFront = new Set(data.models.flatMap((model) => model.onFront));
  const of = (values, i) => (Array.isArray(values) ? values[i] : values);
  const duration = (i) => of(rows.time, i);
  const size = (i) => column("peak_device_bytes", i);
  const measuredOf = (i) => data.measuredRows[i] || null;
  // A horizon is nothing to a point that tuning decided.
  const counts = (axis, i) => !(axis.ofHorizons && of(rows.tuned, i));
  const nameOf = (i) => data.axes.map((axis, a) => (counts(axis, i) ? axis.name + " " + axis.values[rows.places[a][i]] : "")).filter(Boolean).join(", ");

  let at = rows.count ? data.models[0].chosen : -1;
  let wanted = at >= 0 ? placesOf(at) : [];

  const sameWork = (i, c) => microbatches(i) === microbatches(c);
  const gpus = (i) => column("gpus", i) || 1;
  // A step of other work is not slower for taking longer: its work is said instead.
  function stepAgainst(i, c) {
    if (!sameWork(i, c)) return `of ${microbatches(i)} microbatches instead of ${microbatches(c)}`;
    const more = relative(column("step_time_ns", i), column("step_time_ns", c));
    return gpus(i) === gpus(c) ? more : `${more}, on ${gpus(i)} GPUs instead of ${gpus(c)}`;
  }
  // What adds up over a step compares between steps of the same work.
  const inAll = (name, show) => (i, c) => (sameWork(i, c) ? signed(column(name, i) - column(name, c), show) : nothing);
  const atOnce = (name, show) => (i, c) => signed(column(name, i) - column(name, c), show);
  const columns = [
    [data.speed, (i) => (speed(i) === null ? "unlimited" : number(speed(i))), (i, c) => relative(speed(i) || 0, speed(c) || 0)],
    ["tokens/s", (i) => (of(rows.tokens, i) === null ? null : number(of(rows.tokens, i))), (i, c) => (of(rows.tokens, c) === null ? nothing : relative(of(rows.tokens, i), of(rows.tokens, c)))],
    ["step time", (i) => time(column("step_time_ns", i)), stepAgainst, (i) => time(measuredOf(i)[0])],
    [data.time.name, (i) => (data.time.alone ? null : time(duration(i))), (i, c) => relative(duration(i), duration(c))],
    ["peak device", (i) => bytes(size(i)), atOnce("peak_device_bytes", bytes), (i) => bytes(measuredOf(i)[1])],
    ["peak host", (i) => bytes(column("peak_host_bytes", i)), atOnce("peak_host_bytes", bytes)],
    ["host, all GPUs", (i) => (sameHost ? null : bytes(column("host_bytes", i))), atOnce("host_bytes", bytes)],
    ["overlap", (i) => (column("offloaded", i) ? percent(column("overlap", i)) : nothing), atOnce("overlap", (x) => (100 * x).toFixed(1) + " points")],
    ...Object.entries(data.stalls).map(([stall, look]) => ["stall: " + look.title, (i) => time(column("stall_" + stall + "_ns", i)), inAll("stall_" + stall + "_ns", time)]),
    ["offloaded", (i) => column("offloaded", i) + " of " + (column("offloaded", i) + column("kept", i)), inAll("offloaded", String)],
  ];
  const sameHost = JSON.stringify(rows.columns.host_bytes) === JSON.stringify(rows.columns.peak_host_bytes);

  function showPoint() {
    const model = at >= 0 ? modelOf(at) : data.models[0];
    const places = at >= 0 ? placesOf(at) : wanted;
    data.axes.forEach((axis, a) => {
      const slider = find("ex-axis-" + a), text = String(axis.values[places[a]]);
      slider.value = places[a];
      if (!axis.ordered) return;
      slider.setAttribute("aria-valuetext", text);
      find("ex-value-" + a).textContent = text;
    });
    if (find("ex-model")) find("ex-model").textContent = at >= 0 ? "Model: " + model.name : "";
    for (const button of root.querySelectorAll("[data-go]")) {
      button.setAttribute("aria-pressed", String(at >= 0 && at === model[button.dataset.go]));
      if (button.dataset.go === "leanest") button.textContent = model.fits ? "leanest that fits" : "leanest";
      if (button.dataset.go === "chosen") button.textContent = model.fits ? "chosen point" : "nearest to fit";
    }
    showMarks(model);
    const against = find("ex-against");
    if (against) against.textContent = model.fits ? "against chosen" : "against nearest";
    const body = find("ex-numbers");
    body.innerHTML = at < 0 ? "" : columns
      .map(([name, show, differ, told]) => [name, show(at), at === model.chosen ? nothing : differ(at, model.chosen), told && measuredOf(at) ? told(at) : null])
      .filter(([, value]) => value !== null)
      .map(([name, value, other, told]) => `<tr><th scope="row">${escaped(name)}</th><td class="value">${escaped(value)}${told === null ? "" : ` <span class="measured">measured ${escaped(told)}</span>`}</td>${against ? `<td class="words">${escaped(other)}</td>` : ""}</tr>`)
      .join("");
    drawScatter();
    showStep();
  }

  function showMarks(model) {
    const marks = [];
    if (at < 0) marks.push(["bad", "The page does not have this point; its numbers are in the sweep's table."]);
    else {
      if (at === model.chosen && rows.count > 1) marks.push(["good", model.fits ? "chosen" : "nearest to fit"]);
      if (onFront.has(at) && rows.count > 1) marks.push(["good", "on the front"]);
      if (missingDevice(at)) marks.push(["bad", "does not fit: " + bytes(missingDevice(at)) + " of device memory missing"]);
      if (missingHost(at)) marks.push(["bad", "does not fit: " + bytes(missingHost(at)) + " of host memory missing"]);
      const known = column("capacity_bytes", at);
      if (fits(at)) marks.push(["", known === null ? "device memory is not known" : "fits in " + bytes(known)]);
    }
    find("ex-marks").innerHTML = marks.map(([look, text]) => `<span class="ex-badge ${look}">${escaped(text)}</span>`).join(" ");
  }

  function go(i) {
    if (i === undefined) i = -1;
    at = i;
    if (at >= 0) wanted = placesOf(at);
    showPoint();
  }

  // ---- all points, time against memory
  const frame = { left: 58, right: 14, top: 30, bottom: 40 };
  let dots = [];
  function scaleOf(values, room) {
    const low = Math.min(...extent(values)), high = Math.max(...extent(values));
    const pad = (high - low) * room || Math.abs(high) * 0.1 || 1;
    return [low - pad, high + pad];
  }
  function extent(values) {
    let low = Infinity, high = -Infinity;
    for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
    return [low, high];
  }
  function unitFor(largest, units, smallest) {
    const found = units.find(([, factor]) => largest >= 2 * factor);
    return found || [smallest, 1];
  }
  function ticks(low, high, count) {
    const raw = (high - low) / Math.max(count, 1), power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const out = [];
    for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + step * 1e-9; t += step) out.push(Number(t.toPrecision(12)));
    return out;
  }

  function drawScatter() {
    const picture = find("ex-scatter");
    if (!picture) return;
    const width = picture.clientWidth || 360, height = Math.round(clamp(width * 0.8, 240, 330)), m = frame;
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.style.height = height + "px";
    const every = [...Array(rows.count).keys()];
    const told = every.filter(measuredOf);
    const xs = every.map(size), ys = every.map(duration), share = (i) => duration(i) / (column("step_time_ns", i) || 1);
    const diamonds = told.map((i) => [measuredOf(i)[1], measuredOf(i)[0] * share(i)]);
    const capacity = at >= 0 ? column("capacity_bytes", at) : null;
    const highest = extent(xs)[1], shown = capacity !== null && capacity <= 1.4 * highest;
    const [x0, x1] = scaleOf([...xs, ...diamonds.map(([x]) => x), ...(shown ? [capacity] : [])], 0.08);
    const [y0, y1] = scaleOf([...ys, ...diamonds.map(([, y]) => y)], 0.1);
    const X = (x) => m.left + ((x - x0) / (x1 - x0)) * (width - m.left - m.right);
    const Y = (y) => height - m.bottom - ((y - y0) / (y1 - y0)) * (height - m.top - m.bottom);
    const [xUnit, xFactor] = unitFor(x1, BYTES, "B"), [yUnit, yFactor] = unitFor(y1, TIMES, "ns");
    let out = "";
    for (const t of ticks(y0 / yFactor, y1 / yFactor, 4)) out += `<line x1="${m.left}" x2="${width - m.right}" y1="${Y(t * yFactor)}" y2="${Y(t * yFactor)}" stroke="var(--line)"/><text class="quiet" x="${m.left - 6}" y="${Y(t * yFactor) + 4}" text-anchor="end">${t}</text>`;
    for (const t of ticks(x0 / xFactor, x1 / xFactor, 4)) out += `<line x1="${X(t * xFactor)}" x2="${X(t * xFactor)}" y1="${height - m.bottom}" y2="${height - m.bottom + 4}" stroke="var(--quiet)"/><text class="quiet" x="${X(t * xFactor)}" y="${height - m.bottom + 16}" text-anchor="middle">${t}</text>`;
    out += `<text x="${width - m.right}" y="${height - 5}" text-anchor="end">peak device memory (${xUnit})</text><text x="4" y="13">${data.time.name} (${yUnit})</text>`;
    if (shown) {
      const left = X(capacity) > (width + m.left) / 2;
      out += `<line class="capacity" x1="${X(capacity)}" x2="${X(capacity)}" y1="${m.top - 8}" y2="${height - m.bottom}" stroke="var(--ink)" stroke-dasharray="6 4"/><text x="${X(capacity) + (left ? -5 : 5)}" y="${m.top + 3}" text-anchor="${left ? "end" : "start"}">capacity ${bytes(capacity)}</text>`;
    }
    dots = every.map((i) => [X(xs[i]), Y(ys[i])]);
    // The least time that so much memory buys: it falls where the next point of the front fits in.
    for (const model of data.models) {
      const [first, ...others] = [...model.front].reverse();
      const path = `M${dots[first].join(" ")}` + others.map((i) => `H${dots[i][0]}V${dots[i][1]}`).join("");
      out += `<path class="front" d="${path}" fill="none" stroke="var(${model.fits ? "--accent" : "--quiet"})" stroke-opacity="0.6" stroke-width="1.5"/>`;
    }
    if (at >= 0) out += `<path d="M${m.left} ${dots[at][1]}H${width - m.right}M${dots[at][0]} ${m.top - 8}V${height - m.bottom}" stroke="var(--accent)" stroke-width="1" stroke-dasharray="2 3" fill="none"/>`;
    const dot = (some, colour, size) => `<path d="${some.map((i) => `M${dots[i][0].toFixed(1)} ${dots[i][1].toFixed(1)}h0`).join("")}" stroke="${colour}" stroke-width="${size}" style="stroke-linecap:round" fill="none"/>`;
    const cross = (i) => { const [x, y] = dots[i]; return `M${(x - 4).toFixed(1)} ${(y - 4).toFixed(1)}l8 8m0 -8l-8 8`; };
    out += dot(every.filter((i) => fits(i) && !onFront.has(i)), "var(--quiet)", rows.count > 400 ? 4 : 7);
    out += `<path class="misfits" d="${every.filter((i) => !fits(i)).map(cross).join("")}" stroke="var(--quiet)" stroke-width="2" fill="none"/>`;
    out += dot([...onFront].filter(fits), "var(--accent)", 9);
    told.forEach((i, j) => { const x = X(diamonds[j][0]), y = Y(diamonds[j][1]); out += `<path class="measured" d="M${dots[i].join(" ")}L${x} ${y}" stroke="${data.measured}" stroke-opacity="0.5"/><path d="M${x} ${y - 6}l6 6l-6 6l-6 -6z" fill="${data.measured}" stroke="var(--ground)"/>`; });
    for (const model of data.models) out += `<circle class="chosen" cx="${dots[model.chosen][0]}" cy="${dots[model.chosen][1]}" r="11" fill="none" stroke="var(--ink)" stroke-width="2"/>`;
    if (at >= 0) {
      const [x, y] = dots[at];
      if (!fits(at)) out += `<path d="M${x - 6} ${y - 6}l12 12m0 -12l-12 12" stroke="var(--accent)" stroke-width="3.5" fill="none"/>`;
      out += `<circle id="${whose}ex-current" cx="${x}" cy="${y}" r="6" ${fits(at) ? 'fill="var(--accent)" stroke="var(--ink)" stroke-width="2"' : 'fill="none"'}/>`;
    }
    picture.innerHTML = out;
    const every_fits = data.models.every((m) => m.fits), none_fits = data.models.every((m) => !m.fits);
    const signs = [
      `Each dot is a point, and this one lies where the dotted lines cross. Ringed: the ${every_fits ? "chosen" : none_fits ? "nearest to fit" : "chosen, or nearest to fit"} one.`,
      none_fits ? "Line: the front of all points." : "Line: the front, the least time that so much memory buys.",
      every.every(fits) ? "" : "A cross: does not fit.",
      told.length ? "A diamond: as measured." : "",
      data.time.sentence,
      "The axes do not begin at zero.",
    ];
    find("ex-scatter-caption").textContent = signs.filter(Boolean).join(" ");
  }

  // ---- one step: memory over time, and what ran when
  let step = null, view = [0, 1], bound = [0, 1], boxes = [], lanes = [], picked = -1;

  function showStep() {
    const known = at >= 0 ? data.steps[at] || null : null;
    const shown = known || (rows.count ? null : data.run);
    const title = find("ex-of"), which = at >= 0 && data.axes.length ? nameOf(at) : "";
    title.hidden = !rows.count;
    title.textContent = rows.count ? `Memory and operations${which ? " at " + which : ""}` : "";
    find("ex-none").hidden = Boolean(shown) || !rows.count || at < 0;
    if (find("ex-step")) find("ex-step").hidden = !shown;
    if (!shown) {
      step = null;
      if (find("ex-command") && at >= 0) {
        const command = data.command;
        find("ex-command").textContent = [command.before, ...command.settings.map((texts, a) => (counts(data.axes[a], at) ? texts[rows.places[a][at]] : "")), command.after].filter(Boolean).join(" ");
        find("ex-command-note").textContent = command.note;
      }
      return;
    }
    if (shown === step) return;
    step = unpacked(shown);
    picked = -1;
    readStep();
    drawStep();
  }

  // Times come as differences to the one before, sizes as places in a list of them.
  function unpacked(one) {
    const sums = (values) => { let sum = 0; return values.map((value) => (sum += value)); };
    if (one.unpacked) return one;
    one.unpacked = true;
    for (const side of ["predicted", "measured"]) for (const rank of one[side] ? one[side].ranks : []) {
      rank.memory.t_ns = sums(rank.memory.t_ns);
      rank.boxes.op = sums(rank.boxes.op);
      rank.boxes.start_ns = sums(rank.boxes.start_ns);
      rank.boxes.nbytes = rank.boxes.nbytes.map((place) => rank.sizes[place]);
    }
    return one;
  }

  function readStep() {
    const sides = ["predicted", "measured"].filter((side) => step[side]);
    boxes = [];
    lanes = [];
    const found = new Map();
    step.predicted.ranks.forEach((rank, r) => {
      const own = rank.boxes, other = step.measured ? step.measured.ranks[r].boxes : null;
      const there = other ? new Map(other.op.map((op, j) => [op, j])) : null;
      const used = [...new Set(own.queue)].sort((a, b) => a - b);
      for (const queue of used) for (const side of sides) {
        const lane = { rank: rank.rank, r, queue, side, boxes: [], first: queue === used[0] && side === sides[0] };
        found.set(r + "/" + queue + "/" + side, lane);
        lanes.push(lane);
      }
      own.op.forEach((op, j) => {
        const box = { op, rank: rank.rank, kind: own.kind[j], queue: own.queue[j], stage: own.stage[j], unit: own.unit[j], microbatch: own.microbatch[j], nbytes: own.nbytes[j], predicted: sideOf(own, j) };
        const k = there ? there.get(op) : undefined;
        if (k !== undefined) box.measured = sideOf(other, k);
        for (const side of sides) if (box[side]) found.get(r + "/" + box.queue + "/" + side).boxes.push(boxes.length);
        boxes.push(box);
      });
    });
    for (const lane of lanes) lane.boxes.sort((a, b) => boxes[a][lane.side].start - boxes[b][lane.side].start);
    bound = [...step.predicted.window_ns];
    for (const box of boxes) if (box.measured && step.predicted.whole) bound[1] = Math.max(bound[1], box.measured.start + box.measured.length);
    if (bound[1] <= bound[0]) bound[1] = bound[0] + 1;
    // At first boxes are as wide as can be read; "all" has the whole stretch.
    const most = Math.max(1, ...lanes.map((lane) => lane.boxes.length)), share = Math.min(1, root.clientWidth / 9 / most);
    const middle = (bound[0] + bound[1]) / 2, half = ((bound[1] - bound[0]) * (share > 0.7 ? 1 : share)) / 2;
    view = [middle - half, middle + half];
  }
  const sideOf = (c, j) => ({ start: c.start_ns[j], length: c.duration_ns[j], wait: c.wait_ns[j], cause: c.cause[j] });
  const longest = () => Math.max(1, ...["predicted", "measured"].filter((side) => step[side]).map((side) => step[side].step_time_ns));

  // What stands where, left of the charts; a phone has less room for it.
  const narrow = () => root.clientWidth < 640;
  const margin = () => ({ left: narrow() ? 46 : 118, right: narrow() ? 6 : 16 });
  const place = (t, [a, b], width) => margin().left + ((t - a) / (b - a)) * (width - margin().left - margin().right);
  const timeAt = (x, [a, b], width) => a + ((x - margin().left) / (width - margin().left - margin().right)) * (b - a);

  function drawStep() {
    if (!step) return;
    drawMemory();
    drawSides();
    drawOverview();
    drawGantt();
    const { of_ranks, whole, window_ns, ranks } = step.predicted;
    const parts = [];
    if (of_ranks > ranks.length) parts.push(`${ranks.length} of ${of_ranks} ranks are shown.`);
    if (!whole) parts.push(`Operations are those of the stretch from ${time(window_ns[0])} to ${time(window_ns[1])}, marked in the strip above them, which has the whole step.`);
    if (step.measured) parts.push("Predicted above, measured below it.");
    if (!step.waitsKnown) parts.push("Without the plan it is not known what was waited for, and how many bytes were moved.");
    parts.push(narrow() ? "Two fingers zoom, one moves along." : "The wheel zooms, dragging moves along; with the keyboard + and −, and arrows.");
    find("ex-note").textContent = parts.join(" ");
    drawLegend();
    readOut();
  }

  function drawSides() {
    const list = find("ex-sides");
    list.hidden = !step.measured;
    list.innerHTML = sidesShown().map((side) => `<li><svg aria-hidden="true" viewBox="0 0 18 13"><path d="M0 6.5H18" ${lookOf(side)}/></svg>${side}</li>`).join("");
  }

  const WHY = { fullest: "which has most memory in use", "waits longest": "which waits longest", another: "" };
  const sidesShown = () => ["predicted", "measured"].filter((side) => step[side]);
  const lookOf = (side) => (side === "measured" || step.source === "measured" ? `stroke="${data.measured}" stroke-width="1.5"` : `stroke="${data.predicted}" stroke-width="${step.measured ? 4 : 2}" stroke-opacity="${step.measured ? 0.5 : 1}"`);

  function drawMemory() {
    const holder = find("ex-memory");
    if (holder.children.length !== step.predicted.ranks.length) {
      holder.innerHTML = step.predicted.ranks.map((_, r) => `<p class="ex-bar-title" style="margin:10px 0 2px"></p><div class="ex-curve" data-r="${r}"><svg role="img"></svg></div>`).join("");
    }
    const titles = holder.querySelectorAll("p"), charts = holder.querySelectorAll("svg");
    step.predicted.ranks.forEach((rank, r) => {
      const width = charts[r].clientWidth || 800, height = narrow() ? 130 : 140, top = 8, bottom = 22;
      const why = step.predicted.of_ranks > 1 && WHY[rank.why] ? `, ${WHY[rank.why]}` : "";
      const peaks = sidesShown().map((side) => bytes(step[side].ranks[r].peak_device_bytes) + (step.measured ? " " + side : ""));
      const capacity = step.capacity === null ? "" : `, of ${bytes(step.capacity)}`;
      titles[r].textContent = `Device memory of rank ${rank.rank}${why}: peak ${peaks.join(", ")}${capacity}`;
      const values = sidesShown().flatMap((side) => step[side].ranks[r].memory.device_bytes);
      const [low, high] = values.length ? extent(values) : [0, 1];
      const near = step.capacity !== null && step.capacity <= 1.4 * high;
      const topmost = (near ? Math.max(high, step.capacity) : high) || 1;
      const base = low >= 0.6 * topmost ? Math.max(0, low - 0.25 * (topmost - low)) : 0;
      const all = [0, longest()], peakRoom = base + (topmost - base) * 1.12;
      const Y = (v) => height - bottom - ((v - base) / (peakRoom - base)) * (height - top - bottom);
      const [unit, factor] = unitFor(peakRoom, BYTES, "B"), m = margin();
      let out = `<rect x="${place(view[0], all, width)}" width="${Math.max(2, place(view[1], all, width) - place(view[0], all, width))}" y="${top}" height="${height - top - bottom}" fill="var(--mark)" opacity="${view[0] <= 0 && view[1] >= all[1] ? 0 : 1}"/>`;
      for (const t of someTicks(base / factor, peakRoom / factor, 3)) out += `<line x1="${m.left - 4}" x2="${width - m.right}" y1="${Y(t * factor)}" y2="${Y(t * factor)}" stroke="var(--line)"/><text class="quiet" x="${m.left - 6}" y="${Y(t * factor) + 4}" text-anchor="end">${t}${narrow() ? "" : " " + unit}</text>`;
      out += timeAxis(all, width, height, height - bottom);
      for (const side of sidesShown()) {
        const curve = step[side].ranks[r].memory, end = step[side].step_time_ns;
        let path = "";
        curve.t_ns.forEach((t, j) => { path += (j ? "H" : "M") + place(j ? t : Math.min(t, 0), all, width).toFixed(1) + (j ? "V" : " ") + Y(curve.device_bytes[j]).toFixed(1); });
        if (path) out += `<path d="${path}H${place(Math.max(end, curve.t_ns[curve.t_ns.length - 1]), all, width).toFixed(1)}" fill="none" ${lookOf(side)} stroke-linejoin="round"/>`;
      }
      if (near) out += `<line class="capacity" x1="${m.left}" x2="${width - m.right}" y1="${Y(step.capacity)}" y2="${Y(step.capacity)}" stroke="var(--ink)" stroke-dasharray="6 4"/><text x="${width - m.right}" y="${Y(step.capacity) + (Y(step.capacity) < 16 ? 13 : -4)}" text-anchor="end">capacity ${bytes(step.capacity)}</text>`;
      if (narrow()) out += `<text class="quiet" x="2" y="${height - 6}">${unit}</text>`;
      charts[r].setAttribute("viewBox", `0 0 ${width} ${height}`);
      charts[r].setAttribute("aria-label", titles[r].textContent);
      charts[r].style.height = height + "px";
      charts[r].innerHTML = out + `<line class="cursor" y1="${top}" y2="${height - bottom}" stroke="var(--ink)" visibility="hidden"/>`;
    });
  }
  // At least two, so that a length can be read off.
  function someTicks(low, high, count) {
    for (let more = count; more < count + 8; more++) {
      const found = ticks(low, high, more);
      if (found.length > 1) return found;
    }
    return ticks(low, high, count);
  }
  function timeAxis(range, width, height, foot) {
    const [unit, factor] = unitFor(range[1] - range[0], TIMES, "ns");
    const shown = someTicks(range[0] / factor, range[1] / factor, narrow() ? 4 : 9), right = width - margin().right;
    return shown.map((t, j) => {
      const x = place(t * factor, range, width), text = j === shown.length - 1 ? t + " " + unit : String(t);
      // A label stands below its mark; at the edge it is moved no further than the picture ends.
      const half = 3.6 * text.length, at0 = clamp(x, half, right + margin().right - half);
      return `<line x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${foot}" y2="${foot + 5}" stroke="var(--quiet)"/><text class="quiet" x="${at0.toFixed(1)}" y="${height - 5}" text-anchor="middle">${text}</text>`;
    }).join("");
  }
  function levelAt(curve, t) {
    let level = curve.device_bytes[0] || 0;
    for (let j = 0; j < curve.t_ns.length && curve.t_ns[j] <= t; j++) level = curve.device_bytes[j];
    return level;
  }

  function drawOverview() {
    const strip = find("ex-overview"), width = strip.clientWidth || 800, high = 18, gap = 5, m = margin();
    const all = [0, longest()], height = step.predicted.ranks.length * (high + gap) + 4;
    let out = "";
    step.predicted.ranks.forEach((rank, r) => {
      const y = 2 + r * (high + gap), shares = rank.busy_percent, part = step.predicted.step_time_ns / Math.max(shares.length, 1);
      out += `<rect x="${m.left}" width="${width - m.left - m.right}" y="${y}" height="${high}" fill="var(--pale)"/>`;
      let path = "";
      shares.forEach((share, j) => { if (share) path += `M${place(j * part, all, width).toFixed(2)} ${y + high}v${(-high * share / 100).toFixed(2)}H${place((j + 1) * part, all, width).toFixed(2)}V${y + high}z`; });
      out += `<path d="${path}" fill="${data.kinds[0].colour}" fill-opacity="0.55"/><text class="quiet" x="0" y="${y + 13}">${narrow() ? "rank " + rank.rank : `rank ${rank.rank}, busy`}</text>`;
    });
    const mark = (from, to, extra) => { const x = place(from, all, width); return `<rect x="${x}" width="${Math.max(3, place(to, all, width) - x)}" y="1" height="${height - 3}" ${extra}/>`; };
    if (!step.predicted.whole) out += mark(bound[0], bound[1], 'fill="none" stroke="var(--quiet)" stroke-dasharray="3 3"');
    out += mark(view[0], view[1], 'class="window" fill="var(--accent)" fill-opacity="0.16" stroke="var(--accent)" stroke-width="2" rx="3"');
    strip.setAttribute("viewBox", `0 0 ${width} ${height}`);
    strip.style.height = height + "px";
    strip.innerHTML = out;
    const room = bound[1] - bound[0] - (view[1] - view[0]);
    strip.setAttribute("aria-valuenow", String(room > 0 ? Math.round((100 * (view[0] - bound[0])) / room) : 0));
    strip.setAttribute("aria-valuetext", `from ${time(view[0])} to ${time(view[1])}`);
  }

  function hatch(id, { colour, hatch: [angle, crossed] }) {
    const second = crossed ? `<rect width="6" height="1.6" fill="${colour}"/>` : "";
    return `<pattern id="${id}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(${angle})"><rect width="6" height="6" fill="var(--ground)"/><rect width="2.2" height="6" fill="${colour}"/>${second}</pattern>`;
  }
  const stallOf = (side) => (side.wait > 0 && side.cause >= 0 ? data.stallOf[side.cause] : null);

  function drawGantt() {
    const chart = find("ex-gantt"), width = chart.clientWidth || 800, m = margin(), both = Boolean(step.measured);
    const high = both ? 17 : narrow() ? 26 : 22;
    let y = 4, out = "<defs>" + Object.entries(data.stalls).map(([stall, look]) => hatch(whose + "ex-hatch-" + stall, look)).join("") + `<clipPath id="${whose}ex-clip"><rect x="${m.left}" y="0" width="${width - m.left - m.right}" height="4000"/></clipPath></defs>`;
    let labels = "", bodies = "", over = "";
    lanes.forEach((lane, l) => {
      if (lane.first) { y += l ? 10 : 0; labels += `<text x="0" y="${y + 11}" font-weight="600">rank ${lane.rank}</text>`; y += 16; }
      lane.y = y;
      lane.high = high;
      const name = narrow() ? data.lanes[lane.queue].short : data.lanes[lane.queue].name;
      if (lane.side === "predicted" || !both) labels += `<text class="quiet" x="0" y="${y + high / 2 + 4}">${name}</text>`;
      bodies += `<rect x="${m.left}" width="${width - m.left - m.right}" y="${y}" height="${high}" fill="var(--pale)" opacity="${lane.side === "measured" ? 1 : 0.55}"/>`;
      for (const i of lane.boxes) {
        const box = boxes[i], side = box[lane.side], end = side.start + side.length;
        const stall = box.queue === COMPUTE ? stallOf(side) : null;
        if (end < view[0] || side.start - (stall ? side.wait : 0) > view[1]) continue;
        const x = place(Math.max(side.start, view[0]), view, width), to = place(Math.min(end, view[1]), view, width);
        if (stall) {
          const from = place(Math.max(side.start - side.wait, view[0]), view, width);
          if (x - from > HAIR) bodies += `<rect data-op="${box.op}" data-side="${lane.side}" data-wait="${stall}" x="${from.toFixed(2)}" width="${(x - from).toFixed(2)}" y="${y + 2}" height="${high - 4}" fill="url(#${whose}ex-hatch-${stall})" stroke="${data.stalls[stall].colour}" stroke-width="0.7"/>`;
        }
        if (side.length > 0 && side.start <= view[1]) {
          const w = Math.max(to - x, HAIR), kind = data.kinds[box.kind];
          bodies += `<rect data-op="${box.op}" data-side="${lane.side}" data-kind="${kind.name}" x="${x.toFixed(2)}" width="${w.toFixed(2)}" y="${y + 1}" height="${high - 2}" fill="${kind.colour}"${w > 3 ? ' stroke="var(--ground)" stroke-width="0.6"' : ""}/>`;
          if (w > DETAIL && box.microbatch >= 0) bodies += `<text x="${((x + to) / 2).toFixed(1)}" y="${y + high / 2 + 4}" text-anchor="middle" style="fill:var(--ground);font-size:11px;pointer-events:none">${box.microbatch}</text>`;
        }
        if (i === picked) {
          const from = stall ? place(Math.max(side.start - side.wait, view[0]), view, width) : x;
          over += `<rect class="picked" x="${from - 1.5}" width="${Math.max(to - from, 2) + 3}" y="${y - 1}" height="${high + 2}" fill="none" stroke="var(--ink)" stroke-width="2.5"/>`;
        }
      }
      y += high + (both && lane.side === "predicted" ? 1 : 4);
    });
    const height = y + 24;
    out += labels + `<g clip-path="url(#${whose}ex-clip)">${bodies}${over}</g>` + timeAxis(view, width, height, y);
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    chart.style.height = height + "px";
    chart.innerHTML = out;
  }

  function drawLegend() {
    const kinds = new Map(), stalls = new Set();
    for (const box of boxes) {
      if (box.predicted.length > 0) kinds.set(box.kind, data.kinds[box.kind]);
      for (const side of sidesShown()) if (box[side] && box.queue === COMPUTE && stallOf(box[side])) stalls.add(stallOf(box[side]));
    }
    const items = [...kinds].sort(([a], [b]) => a - b).map(([, kind]) => `<li><svg aria-hidden="true"><rect width="18" height="13" fill="${kind.colour}"/></svg>${kind.name}</li>`);
    for (const stall of Object.keys(data.stalls)) if (stalls.has(stall)) items.push(`<li><svg aria-hidden="true"><defs>${hatch(whose + "ex-legend-" + stall, data.stalls[stall])}</defs><rect width="18" height="13" fill="url(#${whose}ex-legend-${stall})"/></svg>waits for ${escaped(data.stalls[stall].label)}</li>`);
    find("ex-legend").innerHTML = items.join("");
  }

  // ---- words about one operation
  function words(i) {
    const box = boxes[i], where = [`rank ${box.rank}`];
    if (box.stage >= 0) where.push(`stage ${box.stage}`);
    if (box.unit >= 0) where.push(`unit ${box.unit}`);
    if (box.microbatch >= 0) where.push(`microbatch ${box.microbatch}`);
    const first = step.source === "measured" ? "measured" : "predicted";
    const lines = [sideWords(box, box.predicted, step.measured ? first : "", box.nbytes)];
    if (box.measured) lines.push(sideWords(box, box.measured, "measured", 0) + difference(box));
    return `<b>${data.kinds[box.kind].name}, ${where.join(", ")}</b>` + lines.map((line) => `<div>${line}</div>`).join("");
  }
  function sideWords(box, side, name, nbytes) {
    const parts = [];
    if (nbytes) parts.push(`moves ${bytes(nbytes)}`);
    parts.push(`starts at ${time(side.start)}`, side.length ? `takes ${time(side.length)}` : "takes no time itself");
    const cause = side.cause >= 0 ? data.kinds[side.cause].name : "another operation";
    // Only compute's waits cost time: a copy that is let start later than its queue is free is as it should be.
    if (!step.waitsKnown) parts.push("waits are not known");
    else if (box.queue === COMPUTE && stallOf(side)) parts.push(`waited ${time(side.wait)} for ${cause}`);
    else if (side.wait > 0) parts.push(`its queue was free for ${time(side.wait)} until ${cause} ended`);
    else if (box.queue === COMPUTE) parts.push("did not wait");
    return (name ? name + ": " : "") + parts.join(" · ");
  }
  function difference(box) {
    const { predicted, measured } = box, parts = [];
    parts.push(`started ${predicted.start === measured.start ? "when predicted" : time(Math.abs(measured.start - predicted.start)) + (measured.start > predicted.start ? " later" : " earlier")}`);
    if (predicted.length) parts.push(`took ${relative(measured.length, predicted.length) === "the same" ? "as long" : relative(measured.length, predicted.length)}`);
    return `<i>${parts.join(", ")} against the prediction</i>`;
  }
  function readOut() {
    const box = find("ex-readout");
    box.classList.toggle("two", Boolean(step.measured));
    box.innerHTML = picked >= 0 ? words(picked) : narrow() ? "Tap an operation: here is what it is and when it ran." : "Point at an operation, or go to one with the arrow keys: here is what it is and when it ran.";
  }
  function pick(i, moves) {
    if (i === picked && !moves) return;
    picked = i;
    if (i >= 0 && moves) {
      const { start, length } = boxes[i].predicted, span = view[1] - view[0];
      if (start < view[0] || start + length > view[1]) return setView(start + length / 2 - span / 2, start + length / 2 + span / 2), readOut();
    }
    drawGantt();
    readOut();
  }

  // ---- moving and zooming
  function setView(a, b) {
    const most = bound[1] - bound[0], least = Math.min(most, Math.max(10, most / 5000));
    let span = clamp(b - a, least, most);
    let from = (a + b) / 2 - span / 2;
    from = clamp(from, bound[0], bound[1] - span);
    view = [from, from + span];
    requestDraw();
  }
  let waiting = false;
  function requestDraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; if (step) { drawMemory(); drawOverview(); drawGantt(); } });
  }
  function zoom(factor, around) {
    const t = around === undefined ? (view[0] + view[1]) / 2 : around;
    setView(t - (t - view[0]) * factor, t + (view[1] - t) * factor);
  }
  function move(share) {
    const span = view[1] - view[0];
    setView(view[0] + share * span, view[1] + share * span);
  }
  function hit(x, y, reach) {
    const lane = lanes.find((one) => y >= one.y - 2 && y <= one.y + one.high + 2);
    if (!lane) return -1;
    const width = find("ex-gantt").clientWidth, t = timeAt(x, view, width);
    const perDot = (view[1] - view[0]) / (width - margin().left - margin().right);
    let best = -1, least = reach * perDot;
    for (const i of lane.boxes) {
      const side = boxes[i][lane.side], from = side.start - (lane.queue === COMPUTE && stallOf(side) ? side.wait : 0);
      const far = t < from ? from - t : t > side.start + side.length ? t - side.start - side.length : -1;
      if (far <= 0 && side.length > 0) return i;
      if (far < least) { least = far; best = i; }
    }
    return best;
  }
  const showTip = (i, event) => {
    const tip = find("ex-tip");
    tip.hidden = i < 0 || narrow();
    if (tip.hidden) return;
    tip.innerHTML = words(i);
    tip.style.left = clamp(event.clientX + 16, 8, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = (event.clientY + 22 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 14 : event.clientY + 22) + "px";
  };

  function listen() {
    for (const button of root.querySelectorAll("[data-go]")) button.addEventListener("click", () => go(modelOf(Math.max(at, 0))[button.dataset.go]));
    for (const slider of root.querySelectorAll("[data-axis]")) slider.addEventListener("input", () => {
      wanted = wanted.slice();
      wanted[Number(slider.dataset.axis)] = Number(slider.value);
      go(rowAt.get(key(wanted)));
    });
    const scatter = find("ex-scatter");
    if (scatter) {
      scatter.addEventListener("click", (event) => {
        const { left, top } = scatter.getBoundingClientRect();
        let best = -1, least = 32 ** 2;
        dots.forEach(([x, y], i) => { const far = (x - event.clientX + left) ** 2 + (y - event.clientY + top) ** 2; if (far < least) { least = far; best = i; } });
        if (best >= 0) go(best);
      });
      scatter.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
        if (!by) return;
        event.preventDefault();
        const order = [...Array(rows.count).keys()].sort((a, b) => size(a) - size(b) || duration(b) - duration(a) || a - b);
        go(order[clamp(order.indexOf(at) + by, 0, rows.count - 1)]);
      });
    }
    if (find("ex-copy")) find("ex-copy").addEventListener("click", () => {
      const text = find("ex-command").textContent, done = () => { find("ex-copy").textContent = "copied"; };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, () => getSelection().selectAllChildren(find("ex-command")));
      else getSelection().selectAllChildren(find("ex-command"));
    });
    if (find("ex-gantt")) { listenGantt(); listenOverview(); listenMemory(); }
    let width = 0;
    new ResizeObserver(() => { if (root.clientWidth !== width) { width = root.clientWidth; if (rows.count > 1) drawScatter(); drawStep(); } }).observe(root);
  }

  function listenGantt() {
    const chart = find("ex-gantt"), down = new Map();
    let start = null, scrolled = -1000;
    for (const button of root.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => ({ in: () => zoom(0.5), out: () => zoom(2), left: () => move(-0.5), right: () => move(0.5), all: () => setView(...bound) })[button.dataset.zoom]());
    // A wheel that is moving the page goes on doing so when the chart comes below the pointer.
    addEventListener("scroll", (event) => { scrolled = event.timeStamp; }, { passive: true });
    chart.addEventListener("wheel", (event) => {
      const all = view[0] <= bound[0] && view[1] >= bound[1];
      if (!event.ctrlKey && (event.timeStamp - scrolled < 400 || (all && event.deltaY > 0))) return;
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) return move(event.deltaX / 800);
      zoom(clamp(1.0018 ** event.deltaY, 0.5, 2), timeAt(event.clientX - chart.getBoundingClientRect().left, view, chart.clientWidth));
    }, { passive: false });
    const spot = (event) => { const { left, top } = chart.getBoundingClientRect(); return [event.clientX - left, event.clientY - top]; };
    const begin = () => { start = { view: [...view], points: [...down.values()].map((p) => [...p]), moved: start ? start.moved : false }; };
    chart.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      if (!down.size) start = null;
      down.set(event.pointerId, spot(event));
      begin();
    });
    chart.addEventListener("pointermove", (event) => {
      const here = spot(event);
      if (!down.has(event.pointerId)) {
        if (event.pointerType !== "mouse") return;
        const i = hit(...here, 5);
        if (i >= 0) pick(i);
        return showTip(i, event);
      }
      down.set(event.pointerId, here);
      const now = [...down.values()], width = chart.clientWidth, at0 = (x) => timeAt(x, start.view, width);
      if (now.length === 1) {
        const by = now[0][0] - start.points[0][0];
        if (!start.moved && Math.abs(by) < 5) return;
        start.moved = true;
        if (event.pointerType === "mouse" && !chart.hasPointerCapture(event.pointerId)) chart.setPointerCapture(event.pointerId);
        chart.classList.add("dragging");
        showTip(-1);
        const shift = at0(start.points[0][0]) - at0(now[0][0]);
        setView(start.view[0] + shift, start.view[1] + shift);
      } else {
        start.moved = true;
        const apart = (points) => Math.max(20, Math.abs(points[0][0] - points[1][0]));
        const factor = apart(start.points) / apart(now), middle = (now[0][0] + now[1][0]) / 2;
        const t = at0((start.points[0][0] + start.points[1][0]) / 2), span = (start.view[1] - start.view[0]) * factor;
        const from = t - ((middle - margin().left) / (width - margin().left - margin().right)) * span;
        setView(from, from + span);
      }
    });
    const up = (event) => {
      if (!down.has(event.pointerId)) return;
      if (event.type === "pointerup" && start && !start.moved) {
        const i = hit(...spot(event), event.pointerType === "mouse" ? 5 : 18);
        pick(i);
      }
      down.delete(event.pointerId);
      if (down.size) begin();
      else chart.classList.remove("dragging");
    };
    chart.addEventListener("pointerup", up);
    chart.addEventListener("pointercancel", up);
    chart.addEventListener("pointerleave", () => showTip(-1));
    chart.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const done = event.shiftKey && moveKeys(event.key) ? true : zoomKeys(event.key) || stepKeys(event.key);
      if (done) event.preventDefault();
    });
  }
  function moveKeys(name) {
    const by = { ArrowLeft: -0.25, ArrowRight: 0.25 }[name];
    if (by) move(by);
    return Boolean(by);
  }
  function zoomKeys(name) {
    const around = picked >= 0 ? clamp(boxes[picked].predicted.start, ...view) : undefined;
    if (name === "+" || name === "=") zoom(0.5, around);
    else if (name === "-" || name === "_") zoom(2, around);
    else if (name === "0") setView(...bound);
    else return false;
    return true;
  }
  function stepKeys(name) {
    if (name === "Escape") return pick(-1), true;
    if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(name) || !boxes.length) return false;
    const ways = lanes.filter((lane) => lane.side === "predicted");
    const own = ways.findIndex((lane) => lane.boxes.includes(picked));
    if (own < 0) return pick(ways[0].boxes.find((i) => boxes[i].predicted.start >= view[0]) ?? ways[0].boxes[0], true), true;
    const lane = ways[own], j = lane.boxes.indexOf(picked);
    if (name === "ArrowRight" || name === "ArrowLeft") pick(lane.boxes[clamp(j + (name === "ArrowRight" ? 1 : -1), 0, lane.boxes.length - 1)], true);
    else if (name === "Home" || name === "End") pick(lane.boxes[name === "Home" ? 0 : lane.boxes.length - 1], true);
    else {
      const other = ways[clamp(own + (name === "ArrowDown" ? 1 : -1), 0, ways.length - 1)], t = boxes[picked].predicted.start;
      if (other.boxes.length) pick(other.boxes.reduce((a, b) => (Math.abs(boxes[b].predicted.start - t) < Math.abs(boxes[a].predicted.start - t) ? b : a)), true);
    }
    return true;
  }

  function listenOverview() {
    const strip = find("ex-overview");
    let grabbed = null;
    const at0 = (event) => timeAt(event.clientX - strip.getBoundingClientRect().left, [0, longest()], strip.clientWidth);
    strip.addEventListener("pointerdown", (event) => {
      const t = at0(event), span = view[1] - view[0];
      if (t < view[0] || t > view[1]) setView(t - span / 2, t + span / 2);
      grabbed = at0(event) - view[0];
      strip.setPointerCapture(event.pointerId);
      strip.classList.add("dragging");
    });
    strip.addEventListener("pointermove", (event) => {
      if (grabbed === null) return;
      const from = at0(event) - grabbed, span = view[1] - view[0];
      setView(from, from + span);
    });
    for (const name of ["pointerup", "pointercancel"]) strip.addEventListener(name, () => { grabbed = null; strip.classList.remove("dragging"); });
    strip.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const ends = { Home: () => setView(bound[0], bound[0] + view[1] - view[0]), End: () => setView(bound[1] - view[1] + view[0], bound[1]) }[event.key];
      if (ends) ends();
      if (ends || moveKeys(event.key) || zoomKeys(event.key)) event.preventDefault();
    });
  }
  function listenMemory() {
    const holder = find("ex-memory");
    const told = (event) => {
      const chart = event.target.closest && event.target.closest(".ex-curve");
      const tip = find("ex-tip");
      for (const line of holder.querySelectorAll(".cursor")) line.setAttribute("visibility", "hidden");
      if (!chart || !step) { tip.hidden = true; return; }
      const box = chart.getBoundingClientRect(), all = [0, longest()], r = Number(chart.dataset.r);
      const t = clamp(timeAt(event.clientX - box.left, all, box.width), 0, all[1]), x = place(t, all, box.width);
      const line = chart.querySelector(".cursor");
      line.setAttribute("visibility", "visible");
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
      tip.hidden = false;
      tip.innerHTML = `<b>at ${time(Math.round(t))}</b>` + sidesShown().map((side) => `<div>${step.measured ? side + ": " : ""}${bytes(levelAt(step[side].ranks[r].memory, t))}</div>`).join("");
      tip.style.left = clamp(event.clientX + 14, 8, innerWidth - tip.offsetWidth - 8) + "px";
      tip.style.top = box.top + 6 + "px";
    };
    holder.addEventListener("pointermove", told);
    holder.addEventListener("pointerdown", told);
    holder.addEventListener("pointerleave", told);
    holder.addEventListener("click", (event) => {
      const chart = event.target.closest(".ex-curve");
      if (!chart) return;
      const t = timeAt(event.clientX - chart.getBoundingClientRect().left, [0, longest()], chart.clientWidth), span = view[1] - view[0];
      setView(t - span / 2, t + span / 2);
    });
  }

  listen();
  if (rows.count) showPoint();
  else showStep();
})();
