// The page: token, upload, jobs, result. All texts of the service are put in as text, never as HTML.
"use strict";

const TARGETS = {
  bowel: ["healthy", "injury"], extravasation: ["healthy", "injury"],
  kidney: ["healthy", "low", "high"], liver: ["healthy", "low", "high"], spleen: ["healthy", "low", "high"],
};
const POLL_MS = 1000;
const TOKEN_KEY = "voco2d-token";

const $ = (id) => document.getElementById(id);
const state = { result: null, job: null, volume: null, target: null, timer: null, drawn: "" };
const viewer = new Viewer($("canvas"), showSlice);

// ---- requests

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) {
    showLogin();
    throw new Error(token ? "The token is not valid." : "");
  }
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `The service answered ${answer.status}.`);
  return answer;
}

function send(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();  // fetch tells nothing of an upload's progress
    request.open("POST", "/api/jobs");
    const token = sessionStorage.getItem(TOKEN_KEY);
    if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new Error("The upload broke off."));
    request.onload = () => (request.status === 202
      ? resolve(request.response)
      : reject(new Error(request.response?.detail ?? `The service answered ${request.status}.`)));
    const form = new FormData();
    form.append("scan", file, "scan");  // the file's name may name a patient
    request.send(form);
  });
}

function say(text, isProblem = false) {
  $("message").textContent = text;
  $("message").classList.toggle("problem", isProblem && text !== "");
}

async function attempt(work) {
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  }
}

// ---- token

function showLogin() {
  clearTimeout(state.timer);
  sessionStorage.removeItem(TOKEN_KEY);
  for (const id of ["upload", "jobs", "result"]) $(id).hidden = true;
  $("login").hidden = false;
  $("token").focus();
}

async function enter() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN_KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  await refresh();
  $("login").hidden = true;
  $("upload").hidden = $("jobs").hidden = false;
  say("");
}

// ---- jobs

async function refresh() {
  clearTimeout(state.timer);
  const listed = await (await ask("/api/jobs")).json();
  const drawn = JSON.stringify([listed, state.job]);
  if (drawn !== state.drawn) drawJobs(listed.jobs);
  state.drawn = drawn;
  const busy = listed.counts.waiting + listed.counts.running > 0;
  state.timer = setTimeout(() => attempt(refresh), busy ? POLL_MS : 10 * POLL_MS);
  return listed.jobs;
}

function drawJobs(jobs) {
  const focused = document.activeElement?.dataset?.job;
  $("no-jobs").hidden = jobs.length > 0;
  $("job-list").replaceChildren(...jobs.map((job) => {
    const item = document.createElement("li");
    const text = document.createElement("span");
    const when = new Date(job.created).toLocaleString([], { timeZoneName: "short" });
    const named = job.state === "running" || job.state === "done" ? job.stage : job.state;
    text.textContent = `${when}: ${named}${job.reason ? `, ${job.reason}` : ""}`;
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.job = job.id;
    button.textContent = job.state === "done" ? "Show" : "Delete";
    button.setAttribute("aria-label", `${button.textContent} the job of ${when}`);
    if (job.id === state.job) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => attempt(() => (job.state === "done" ? open(job.id) : remove(job.id))));
    item.append(text, button);
    if (job.state === "running" || job.state === "waiting") {
      const bar = document.createElement("progress");
      bar.max = 1;
      bar.value = job.progress;
      bar.setAttribute("aria-label", "progress");
      item.append(bar);
    }
    return item;
  }));
  if (focused) document.querySelector(`[data-job="${focused}"]`)?.focus();
}

async function follow(id) {
  for (;;) {
    const job = (await refresh()).find((one) => one.id === id);
    if (!job) return;
    if (job.state === "done") return open(id);
    if (job.state === "failed") throw new Error(`Not graded: ${job.reason}.`);
    say(`${job.state === "running" ? job.stage : "waiting"}: ${Math.round(100 * job.progress)} %`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function remove(id) {
  await ask(`/api/jobs/${id}`, { method: "DELETE" });
  if (state.job === id) {
    $("result").hidden = true;
    state.job = null;
  }
  say("Deleted.");
  await refresh();
}

// ---- result

async function open(id) {
  state.result = await (await ask(`/api/jobs/${id}/result`)).json();
  state.job = id;
  $("result").hidden = false;
  say("");
  const choices = state.result.volumes.map((volume, index) => {
    const choice = document.createElement("option");
    choice.value = String(index);
    choice.textContent = `study ${volume.study + 1}, series ${volume.series + 1}: ${volume.slices} slices`;
    return choice;
  });
  $("volume").replaceChildren(...choices);
  $("volume-row").hidden = choices.length < 2;
  $("result-title").focus();
  await refresh();
  await showVolume(0);
}

async function file(name) {
  return (await ask(`/api/jobs/${state.job}/files/${name}`)).arrayBuffer();
}

async function showVolume(index) {
  const volume = state.volume = state.result.volumes[index];
  const study = state.result.studies[volume.study];
  const series = study.series[volume.series];
  state.target = null;
  $("overlay-row").hidden = true;
  $("scores").setAttribute("hidden", "");
  $("status").textContent = series.status === "assessed"
    ? `Assessed${study.any_injury === undefined ? "" : `. Any injury: ${percent(study.any_injury)}`}${study.calibrated ? ", calibrated" : ", not calibrated"}${
      study.series.length > 1 ? `; numbers are the highest of ${study.series.length} series` : ""}.`
    : "Not assessed: there is no number for this series.";
  const skipped = Object.entries(state.result.skipped).map(([reason, files]) => `${files} left out: ${reason}`);
  const unexplained = volume.unexplained && `no explanation: ${volume.unexplained}`;
  $("reason").textContent = [series.reason, unexplained, ...skipped].filter(Boolean).join("; ");
  drawTargets(study, series);
  $("slice").max = String(volume.shown_slices);
  await Promise.all([drawImages(volume), showScan(volume)]);
  $("canvas").dataset.shown = volume.file;
}

async function showScan(volume) {
  await viewer.show(await file(volume.file), volume.shown_slices, chosenWindow());
}

function drawTargets(study, series) {
  const values = series.probabilities === null ? null : study.probabilities;
  $("targets").replaceChildren(...Object.entries(study.targets ?? TARGETS).map(([target, classes]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "target";
    button.dataset.target = target;
    button.setAttribute("aria-pressed", "false");
    const keys = state.volume.key_slices[target];
    const name = document.createElement("span");
    name.className = "name";
    name.append(words(target), words(values ? percent(1 - values[`${target}_${classes[0]}`]) : "no number"));
    button.append(name);
    if (values) {
      const bar = document.createElement("span");
      bar.className = "bar";
      const filled = document.createElement("span");
      filled.style.width = percent(1 - values[`${target}_${classes[0]}`]);
      bar.append(filled);
      button.append(bar);
    }
    const more = document.createElement("span");
    more.className = "more";
    const grades = values ? classes.slice(1).map((grade) => gradeText(study, target, grade)) : [];
    more.textContent = [...grades, keys === undefined ? "no key slice" : `key slice ${keys[0] + 1}`].join(" · ");
    button.append(more);
    button.addEventListener("click", () => attempt(() => showTarget(target)));
    return button;
  }));
}

function words(text) {
  const node = document.createElement("span");
  node.textContent = text;
  return node;
}

function gradeText(study, target, grade) {
  const column = `${target}_${grade}`;
  const ends = study.intervals?.[column];
  return `${grade} ${percent(study.probabilities[column])}${ends ? ` (${percent(ends[0])} to ${percent(ends[1])})` : ""}`;
}

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}

async function showTarget(target, slice) {
  state.target = target;
  for (const button of document.querySelectorAll(".target")) {
    button.setAttribute("aria-pressed", String(button.dataset.target === target));
  }
  const { key_slices: keys, overlays, slice_step: step } = state.volume;
  drawScores(state.volume.slice_scores[target]);
  if (keys[target] !== undefined) viewer.setSlice(Math.floor((slice ?? keys[target][0]) / step));
  viewer.hideOverlay();
  $("overlay-row").hidden = overlays[target] === undefined;
  if (overlays[target] !== undefined) {
    const buffer = await file(overlays[target]);
    if (state.target === target) await viewer.showOverlay(buffer, opacity());
  }
  $("canvas").dataset.target = target;
}

async function drawImages(volume) {
  const images = await Promise.all(volume.images.map(async (image) => {
    const button = document.createElement("button");
    const picture = document.createElement("img");
    const caption = document.createElement("span");
    picture.src = URL.createObjectURL(new Blob([await file(image.file)]));
    picture.onload = () => URL.revokeObjectURL(picture.src);
    caption.textContent = `${image.target ?? "overview"}, slice ${image.slice + 1}`;
    picture.alt = `axial slice ${image.slice + 1}${image.target ? `, attribution of ${image.target}` : ""}`;
    button.type = "button";
    button.append(picture, caption);
    button.addEventListener("click", () => attempt(async () => {
      if (image.target) await showTarget(image.target, image.slice);
      else viewer.setSlice(Math.floor(image.slice / volume.slice_step));
      $("canvas").focus();
    }));
    return button;
  }));
  $("images").replaceChildren(...images);
}

// ---- slices

function showSlice(slice) {
  const number = slice * state.volume.slice_step + 1;
  const text = `${number} of ${state.volume.slices}, from above`;
  $("slice").value = String(slice + 1);
  $("slice").setAttribute("aria-valuetext", text);
  $("slice-text").textContent = text;
  const mark = $("scores").querySelector("line");
  if (mark) for (const end of ["x1", "x2"]) mark.setAttribute(end, String((100 * (slice + 0.5)) / viewer.shown));
}

function drawScores(scores) {
  $("scores").replaceChildren();
  $("scores").toggleAttribute("hidden", scores === undefined);
  if (scores === undefined) return;
  const known = scores.filter((score) => score !== null);  // the networks need not see all slices
  const low = Math.min(...known);
  const range = Math.max(...known) - low || 1;
  const points = scores.flatMap((score, index) => (score === null
    ? []
    : `${(100 * (index + 0.5)) / scores.length},${22 - (20 * (score - low)) / range}`));
  const [curve, mark] = ["polyline", "line"].map((name) => document.createElementNS("http://www.w3.org/2000/svg", name));
  curve.setAttribute("points", points.join(" "));
  mark.setAttribute("y1", "0");
  mark.setAttribute("y2", "24");
  $("scores").append(curve, mark);
  showSlice(viewer.slice);
}

const STEPS = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -10, PageDown: 10 };

function walk(event) {
  const end = { Home: 0, End: viewer.shown - 1 }[event.key];
  if (end === undefined && STEPS[event.key] === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  viewer.setSlice(end ?? viewer.slice + STEPS[event.key]);
}

function moveAmongTargets(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const buttons = [...document.querySelectorAll(".target")];
  const place = buttons.indexOf(document.activeElement);
  buttons[(place + step + buttons.length) % buttons.length].focus();
}

function chosenWindow() {
  return $("window").value.split(",").map(Number);
}

function opacity() {
  $("overlay-text").textContent = `${$("overlay").value}%`;
  return Number($("overlay").value) / 100;
}

// ---- what the reader does

$("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN_KEY, $("token").value.trim());
  $("token").value = "";
  attempt(enter);
});
$("upload-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    $("send").disabled = true;
    $("sent").hidden = false;
    say("Uploading.");
    try {
      const job = await send($("scan").files[0], (share) => { $("sent").value = share; });
      $("upload-form").reset();
      $("send").disabled = false;
      await follow(job.id);
    } finally {
      $("send").disabled = false;
      $("sent").hidden = true;
    }
  });
});
$("volume").addEventListener("change", () => attempt(() => showVolume(Number($("volume").value))));
$("slice").addEventListener("input", () => viewer.setSlice(Number($("slice").value) - 1));
$("canvas").addEventListener("keydown", walk, true);
$("targets").addEventListener("keydown", moveAmongTargets);
$("window").addEventListener("change", () => viewer.setWindow(chosenWindow()));
$("planes").addEventListener("change", () => viewer.setPlanes($("planes").value === "all"));
$("overlay").addEventListener("input", () => viewer.setOpacity(opacity()));
$("scores").addEventListener("click", (event) => {
  const box = $("scores").getBoundingClientRect();
  viewer.setSlice(Math.floor(((event.clientX - box.left) / box.width) * viewer.shown));
});
$("delete").addEventListener("click", () => attempt(() => remove(state.job)));
$("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(state.result, null, 2)], { type: "application/json" }));
  link.download = `voco2d-${state.job}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
});

fetch("/api/health").then((answer) => answer.json()).then((health) => { $("version").textContent = `voco2d ${health.version}`; });
attempt(enter);
