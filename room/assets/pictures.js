// Pictures: true pixels where they are looked at, one zoom and one wipe for all of a page, one step for all runs.
import { get, refresh } from "/assets/room.js";

const byId = (id) => document.getElementById(id);
for (const part of document.querySelectorAll("[data-scripted]")) part.hidden = false;
for (const part of document.querySelectorAll("[data-plain]")) part.hidden = true;

// True pixels take the place of the small copy, which stays until they are there.
function sharpen(image) {
    const address = image.dataset.full;
    if (!address || image.dataset.sharp === address) return;
    image.dataset.sharp = address;
    const whole = new Image();
    whole.onload = () => { if (image.dataset.full === address) { image.src = address; place(image.closest(".view")); } };
    whole.onerror = () => { if (image.dataset.full === address) image.title = "The whole picture cannot be read; open it to see why."; };
    whole.src = address;
}
const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        target.querySelectorAll("img[data-full]").forEach(sharpen);
        score(target.parentElement?.querySelector("[data-score]"));
    }
}, { rootMargin: "120px" });

let asking = 0;
const waiting = [];
function score(line) {
    if (!line || line.dataset.asked) return;
    line.dataset.asked = "1";
    waiting.push(line);
    ask();
}
async function ask() {
    if (asking >= 2 || !waiting.length) return;
    const line = waiting.shift();
    asking += 1;
    try {
        const { psnr } = await get(line.dataset.score);
        line.textContent = psnr === null ? "equal" : `PSNR ${psnr.toFixed(2)} dB`;
    } catch (error) { line.textContent = error.message; }
    asking -= 1;
    ask();
}

// The part of the pictures that is looked at: a scale of whole device pixels, or none to fit, and a centre that all share.
const look = { scale: null, x: 0.5, y: 0.5 };
function place(view) {
    const stack = view?.querySelector(".stack");
    const image = stack?.querySelector(".over, .alone");
    if (!image) return;
    if (look.scale === null) { stack.style.transform = ""; view.style.height = ""; return; }
    const width = view.clientWidth;
    const pixels = Number(image.getAttribute("width")) || image.naturalWidth;
    if (!pixels || !width) return;
    const device = window.devicePixelRatio || 1;
    const scale = (pixels * look.scale) / device / width;
    const height = stack.offsetHeight;
    view.style.height = `${height}px`;
    const shift = (centre, size) => Math.round((size / 2 - centre * size * scale) * device) / device;
    stack.style.transform = `translate(${shift(look.x, width)}px, ${shift(look.y, height)}px) scale(${scale})`;
}
const placeAll = () => document.querySelectorAll(".view").forEach(place);
function zoom(scale) {
    look.scale = scale;
    if (scale === null) { look.x = 0.5; look.y = 0.5; }
    document.body.classList.toggle("zoomed", scale !== null);
    for (const button of document.querySelectorAll("[data-zoom]")) {
        button.setAttribute("aria-pressed", String(button.dataset.zoom === String(scale ?? "fit")));
    }
    placeAll();
}
const SCALES = [null, 1, 2, 4, 8];
const nextScale = (by) => zoom(SCALES[Math.max(0, Math.min(SCALES.length - 1, SCALES.indexOf(look.scale) + by))]);
document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-zoom]");
    if (button) zoom(button.dataset.zoom === "fit" ? null : Number(button.dataset.zoom));
});
addEventListener("resize", placeAll);

const wipe = byId("wipe");
function wiped(percent) {
    const share = Math.max(0, Math.min(100, percent));
    document.documentElement.style.setProperty("--wipe", `${share}%`);
    if (wipe) wipe.value = String(share);
}
wipe?.addEventListener("input", () => wiped(Number(wipe.value)));

// Dragged: zoomed pictures move, fitting ones are wiped (by touch the page scrolls, and the slider wipes).
let drag = null;
document.addEventListener("pointerdown", (event) => {
    const view = event.target.closest?.(".view");
    if (!view || event.button !== 0) return;
    if (look.scale === null && (event.pointerType === "touch" || !wipe)) return;
    drag = { view, x: event.clientX, y: event.clientY, moved: false };
});
document.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag.moved = true;
    const box = drag.view.getBoundingClientRect();
    if (look.scale === null) { wiped(((event.clientX - box.left) / box.width) * 100); return; }
    const stack = drag.view.querySelector(".stack").getBoundingClientRect();
    const inside = (value) => Math.max(0, Math.min(1, value));
    look.x = inside(look.x - dx / stack.width);
    look.y = inside(look.y - dy / stack.height);
    [drag.x, drag.y] = [event.clientX, event.clientY];
    placeAll();
});
for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => { const last = drag; drag = null; if (last?.moved) swallow = true; });
}
let swallow = false;
document.addEventListener("click", (event) => {
    if (swallow && event.target.closest?.(".view")) event.preventDefault();
    swallow = false;
}, true);
document.addEventListener("pointerdown", () => { swallow = false; }, true);
document.addEventListener("dragstart", (event) => { if (event.target.closest?.(".view")) event.preventDefault(); });
document.addEventListener("wheel", (event) => {
    if (!(event.ctrlKey || event.metaKey) || !event.target.closest?.(".view")) return;
    event.preventDefault();
    nextScale(event.deltaY < 0 ? 1 : -1);
}, { passive: false });

function watch() {
    for (const view of document.querySelectorAll(".view")) { seen.unobserve(view); seen.observe(view); place(view); }
}

// One step for all runs.
const grid = byId("grid");
const slider = byId("slider");
const field = byId("step");
const play = byId("play");
let steps = [];
let follows = !new URLSearchParams(location.search).get("step");
let playing = null;
const base = grid?.dataset.base;
const at = (path, step) => {
    const address = new URL(base, location.href);
    address.pathname = path;
    if (step !== null) address.searchParams.set("step", step);
    if (byId("under")?.value === "reference") address.searchParams.set("under", "reference"); else address.searchParams.delete("under");
    // Commas stay as they are: the address is read by people.
    return address.pathname + address.search.replaceAll("%2C", ",");
};
function read() {
    const line = byId("steps");
    if (!line || !slider) return;
    steps = line.dataset.steps ? line.dataset.steps.split(",").map(Number) : [];
    slider.max = String(Math.max(0, steps.length - 1));
    slider.disabled = steps.length < 2;
    const index = Math.max(0, steps.findLastIndex((step) => step <= Number(line.dataset.step)));
    if (document.activeElement !== slider || playing) slider.value = String(index);
    slider.setAttribute("aria-valuetext", `step ${steps[index] ?? "–"}`);
    if (field && document.activeElement !== field && line.dataset.step !== undefined) field.value = line.dataset.step;
}
function show(step) {
    follows = step === steps.at(-1);
    grid.dataset.live = at("/pictures/grid", follows ? null : step);
    grid.dataset.on = follows ? "tick jobs" : "jobs";
    history.replaceState(null, "", at("/pictures", follows ? null : step));
    if (field) field.value = String(step);
    return refresh(grid);
}
function go(by) {
    const index = Number(slider.value) + by;
    if (index < 0 || index >= steps.length) return false;
    slider.value = String(index);
    show(steps[index]);
    return true;
}
function stop() {
    clearTimeout(playing);
    playing = null;
    play?.setAttribute("aria-pressed", "false");
    if (play) play.textContent = "Play";
}
function start() {
    if (steps.length < 2) return;
    if (Number(slider.value) >= steps.length - 1) { slider.value = "0"; show(steps[0]); }
    play.setAttribute("aria-pressed", "true");
    play.textContent = "Stop";
    const next = () => { if (go(1)) playing = setTimeout(next, 700); else stop(); };
    playing = setTimeout(next, 700);
}
if (grid && slider) {
    read();
    slider.addEventListener("input", () => { stop(); show(steps[Number(slider.value)]); });
    byId("back").addEventListener("click", () => { stop(); go(-1); });
    byId("forward").addEventListener("click", () => { stop(); go(1); });
    play.addEventListener("click", () => (playing ? stop() : start()));
    field.addEventListener("change", () => {
        stop();
        const wanted = Number(field.value);
        if (Number.isFinite(wanted)) show(steps.findLast((step) => step <= wanted) ?? steps[0]);
    });
    byId("under").addEventListener("change", () => show(steps[Number(slider.value)]));
    field.form.addEventListener("submit", (event) => event.preventDefault());
    grid.addEventListener("refreshed", () => { read(); watch(); });
}
document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, summary")) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && slider) { stop(); go(by); event.preventDefault(); }
    else if (by) byId(by < 0 ? "earlier" : "later")?.click();
    else if (event.key === " " && play && !event.target.closest("button, a")) { event.preventDefault(); if (playing) stop(); else start(); }
    else if (event.key === "0") zoom(null);
    else if (event.key === "+" || event.key === "=") nextScale(1);
    else if (event.key === "-") nextScale(-1);
});
watch();
