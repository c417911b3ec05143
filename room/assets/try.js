// A picture to try: chosen, dropped or pasted; its mask painted, by the numbers of a box, or from a file.
// And a try that was made: before and after, and the denoising as a film.
import { post } from "/assets/room.js";

const $ = (id) => document.getElementById(id);
const form = $("try");
const LONGEST = 8 << 20;
// Longer side of the mask while it is painted; it is sent in the picture's own size.
const SIDE = 1024;
const UNDO = 12;

if (form) paint();
function paint() {
    const canvas = $("canvas"), stage = $("stage"), view = canvas.getContext("2d");
    const mask = document.createElement("canvas"), hole = mask.getContext("2d", { willReadFrequently: true });
    let picture = null, file = null, name = form.dataset.name ?? "", untouched = false, before = [], from = null, last = null;

    const task = () => form.elements.task.selectedOptions[0];
    const hasHole = () => task()?.dataset.hole === "1";
    const say = (text) => { $("about").textContent = text; };
    const wrong = (text) => { $("wrong").hidden = !text; $("wrong").textContent = text ?? ""; };

    async function take(blob, called) {
        wrong(null);
        if (blob.size > LONGEST) { wrong(`The picture has ${(blob.size / 1048576).toFixed(1)} MiB, and at most 8 MiB are taken: make it smaller.`); return false; }
        try { picture = await createImageBitmap(blob, { imageOrientation: "from-image" }); }
        catch { wrong("This file is no picture that a browser can show: choose a JPEG, PNG or WebP."); return false; }
        file = blob; name = called;
        const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
        for (const one of [canvas, mask]) {
            one.width = Math.max(1, Math.round(picture.width * scale));
            one.height = Math.max(1, Math.round(picture.height * scale));
        }
        before = []; untouched = false;
        // Small pictures are shown larger, pixel by pixel.
        const shown = Math.max(canvas.width, canvas.height);
        canvas.style.width = shown < 384 ? `${Math.round(canvas.width * 384 / shown)}px` : "";
        canvas.classList.toggle("pixelated", shown < 384);
        stage.hidden = false;
        $("drop").classList.add("small");
        show(); draw();
        return true;
    }

    function share() {
        const { data } = hole.getImageData(0, 0, mask.width, mask.height);
        let marked = 0;
        for (let at = 3; at < data.length; at += 4) if (data[at] > 127) marked++;
        return marked / (mask.width * mask.height);
    }
    const tinted = document.createElement("canvas");
    function draw() {
        if (!picture) return;
        view.globalAlpha = 1;
        view.clearRect(0, 0, canvas.width, canvas.height);
        view.drawImage(picture, 0, 0, canvas.width, canvas.height);
        if (hasHole()) {
            tinted.width = mask.width; tinted.height = mask.height;
            const tint = tinted.getContext("2d");
            tint.drawImage(mask, 0, 0);
            tint.globalCompositeOperation = "source-in";
            tint.fillStyle = "#ff2d78";
            tint.fillRect(0, 0, mask.width, mask.height);
            view.globalAlpha = .6;
            view.drawImage(tinted, 0, 0);
            view.globalAlpha = 1;
        }
        if (from && last && tool() === "box") {
            view.lineWidth = Math.max(1, canvas.width / 300);
            view.strokeStyle = "#ff2d78";
            view.strokeRect(from.x, from.y, last.x - from.x, last.y - from.y);
        }
    }
    function tell() {
        if (!picture) return say("");
        const size = `${picture.width}×${picture.height} pixels`;
        if (!hasHole()) return say(size);
        const part = share();
        if (part === 0) return say(`${size}. Paint over what is to be made anew.`);
        say(`${size}, ${(100 * part).toFixed(part < .1 ? 1 : 0)} % marked${part > .7 ? ". That is most of the picture: did you mean the rest? Press Invert." : "."}`);
    }
    function show() {
        const on = hasHole() && picture !== null;
        $("tools").hidden = $("numbers").hidden = !on;
        stage.classList.toggle("painting", on);
        const weights = [...$("offers").options].find((one) => one.value.split("@")[0] === form.elements.weights.value.split("@")[0]);
        const tasks = weights?.dataset.tasks?.split(" ").filter(Boolean) ?? [];
        $("untrained").hidden = tasks.length === 0 || tasks.includes(task().value);
        $("short-side").hidden = form.elements.size.value !== "short-side";
        tell();
    }
    function keep() {
        before.push(hole.getImageData(0, 0, mask.width, mask.height));
        if (before.length > UNDO) before.shift();
        untouched = false;
    }
    const tool = () => form.elements.tool.value;
    const radius = () => Math.max(.5, Number($("width").value) / 400 * Math.max(mask.width, mask.height));
    function stroke(a, b) {
        hole.globalCompositeOperation = tool() === "erase" ? "destination-out" : "source-over";
        hole.strokeStyle = hole.fillStyle = "#fff";
        hole.lineWidth = 2 * radius();
        hole.lineCap = hole.lineJoin = "round";
        hole.beginPath(); hole.moveTo(a.x, a.y); hole.lineTo(b.x, b.y); hole.stroke();
        hole.beginPath(); hole.arc(b.x, b.y, radius(), 0, 2 * Math.PI); hole.fill();
        hole.globalCompositeOperation = "source-over";
    }
    function box(x, y, width, height, marked) {
        if (marked) { hole.fillStyle = "#fff"; hole.fillRect(x, y, width, height); } else hole.clearRect(x, y, width, height);
    }
    const place = (event) => {
        const at = canvas.getBoundingClientRect();
        return { x: (event.clientX - at.left) * canvas.width / at.width, y: (event.clientY - at.top) * canvas.height / at.height };
    };
    canvas.addEventListener("pointerdown", (event) => {
        if (!hasHole() || event.button !== 0) return;
        event.preventDefault();
        canvas.setPointerCapture(event.pointerId);
        keep();
        from = last = place(event);
        if (tool() !== "box") stroke(from, last);
        draw();
    });
    canvas.addEventListener("pointermove", (event) => {
        if (!from) return;
        for (const one of event.getCoalescedEvents?.() ?? [event]) {
            const to = place(one);
            if (tool() !== "box") stroke(last, to);
            last = to;
        }
        requestAnimationFrame(draw);
    });
    const done = (event) => {
        if (!from) return;
        const to = event.type === "pointerup" ? place(event) : last;
        if (tool() === "box") box(Math.min(from.x, to.x), Math.min(from.y, to.y), Math.abs(to.x - from.x), Math.abs(to.y - from.y), !event.shiftKey);
        from = last = null;
        draw(); tell();
    };
    canvas.addEventListener("pointerup", done);
    canvas.addEventListener("pointercancel", done);

    const undo = () => { const one = before.pop(); if (one) { hole.putImageData(one, 0, 0); draw(); tell(); } };
    $("undo").addEventListener("click", undo);
    form.addEventListener("keydown", (event) => {
        if ((event.ctrlKey || event.metaKey) && event.key === "z" && event.target.type !== "text" && event.target.type !== "number") { event.preventDefault(); undo(); }
    });
    $("clear").addEventListener("click", () => { keep(); hole.clearRect(0, 0, mask.width, mask.height); draw(); tell(); });
    $("invert").addEventListener("click", () => {
        keep();
        hole.globalCompositeOperation = "source-out";
        hole.fillStyle = "#fff"; hole.fillRect(0, 0, mask.width, mask.height);
        hole.globalCompositeOperation = "source-over";
        draw(); tell();
    });
    for (const [button, marked] of [["box-mark", true], ["box-free", false]]) {
        $(button).addEventListener("click", () => {
            const part = (id, length) => Math.round(Number($(`box-${id}`).value) / 100 * length);
            keep();
            box(part("left", mask.width), part("top", mask.height), part("wide", mask.width), part("high", mask.height), marked);
            draw(); tell();
        });
    }
    async function takeMask(blob) {
        let drawn;
        try { drawn = await createImageBitmap(blob); } catch { wrong("The mask is no picture that a browser can show."); return; }
        if (drawn.width !== picture.width || drawn.height !== picture.height) { wrong(`The mask is ${drawn.width}×${drawn.height}, the picture ${picture.width}×${picture.height}: both must be of one size.`); return; }
        wrong(null); keep();
        hole.clearRect(0, 0, mask.width, mask.height);
        hole.drawImage(drawn, 0, 0, mask.width, mask.height);
        const image = hole.getImageData(0, 0, mask.width, mask.height), { data } = image;
        for (let at = 0; at < data.length; at += 4) {
            const light = (.299 * data[at] + .587 * data[at + 1] + .114 * data[at + 2]) * data[at + 3] / 255;
            data[at] = data[at + 1] = data[at + 2] = 255;
            data[at + 3] = light >= 128 ? 255 : 0;
        }
        hole.putImageData(image, 0, 0);
        draw(); tell();
    }
    $("mask").addEventListener("change", (event) => { const [one] = event.target.files; if (one) takeMask(one); });

    $("file").addEventListener("change", (event) => { const [one] = event.target.files; if (one) take(one, one.name); });
    addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
    addEventListener("dragleave", () => $("drop").classList.remove("over"));
    addEventListener("drop", (event) => {
        event.preventDefault();
        $("drop").classList.remove("over");
        const one = event.dataTransfer?.files[0];
        if (one) take(one, one.name);
    });
    addEventListener("paste", (event) => {
        const one = [...event.clipboardData?.files ?? []].find((one) => one.type.startsWith("image/"));
        if (one) take(one, one.name || "pasted.png");
    });
    form.addEventListener("change", () => { show(); draw(); });
    form.elements.weights.addEventListener("input", show);

    /** The mask in the picture's own size, black and white. */
    async function maskFile() {
        const whole = document.createElement("canvas");
        whole.width = picture.width; whole.height = picture.height;
        const all = whole.getContext("2d");
        all.fillStyle = "#000"; all.fillRect(0, 0, whole.width, whole.height);
        // Edges of strokes are of the hole from the middle on.
        const hard = document.createElement("canvas");
        hard.width = mask.width; hard.height = mask.height;
        const image = hole.getImageData(0, 0, mask.width, mask.height);
        for (let at = 3; at < image.data.length; at += 4) {
            const on = image.data[at] > 127 ? 255 : 0;
            image.data[at - 3] = image.data[at - 2] = image.data[at - 1] = image.data[at] = on;
        }
        hard.getContext("2d").putImageData(image, 0, 0);
        all.imageSmoothingEnabled = false;
        all.drawImage(hard, 0, 0, whole.width, whole.height);
        return new Promise((give) => whole.toBlob(give, "image/png"));
    }
    const base64 = (blob) => new Promise((give, fail) => {
        const reader = new FileReader();
        reader.onload = () => give(reader.result.slice(reader.result.indexOf(",") + 1));
        reader.onerror = () => fail(new Error("the file cannot be read"));
        reader.readAsDataURL(blob);
    });

    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        wrong(null);
        if (!picture) { wrong("There is no picture yet: choose one."); $("file").focus(); return; }
        const button = form.querySelector("button.main");
        button.disabled = true;
        try {
            const { elements } = form, number = (field) => (field.value === "" ? null : Number(field.value));
            const wanted = {
                weights: elements.weights.value, task: elements.task.value, name,
                size: elements.size.value, short_side: elements.size.value === "short-side" ? number(elements.short_side) : null,
                any_task: elements.any_task.checked, process: elements.process.value,
                steps: number(elements.steps), eta: number(elements.eta) ?? 0,
                samples: number(elements.samples), seed: number(elements.seed),
            };
            // An earlier try's picture is there already; so is its mask, where nobody touched it.
            if (untouched && form.dataset.of) wanted.of = form.dataset.of;
            else {
                wanted.picture = await base64(file);
                if (hasHole()) {
                    const part = share();
                    if (part === 0 && file.type === "image/jpeg") throw new Error("nothing is marked: paint over what is to be made anew");
                    if (part === 1) throw new Error("everything is marked: something must be left to go by");
                    if (part > 0) wanted.mask = await base64(await maskFile());
                }
            }
            const made = await post("/api/v1/tries", wanted);
            location.href = `/try/${made.id}`;
        } catch (error) {
            wrong(`${error.message[0]?.toUpperCase() ?? ""}${error.message.slice(1)}.`);
            button.disabled = false;
        }
    });

    async function begin() {
        const { picture: at, mask: drawn } = form.dataset;
        if (!at) return show();
        const answer = await fetch(at);
        if (!answer.ok || !await take(await answer.blob(), name)) return show();
        if (drawn) { const answer = await fetch(drawn); if (answer.ok) await takeMask(await answer.blob()); }
        before = [];
        untouched = true;
    }
    begin();
}

// A try: the slider over an output uncovers what was given.
const wipe = (slider) => slider.closest(".result")?.querySelector(".wipe")?.style.setProperty("--cut", `${slider.value}%`);
const frames = (reel) => reel.dataset.frames.split(",").map((one) => one.split(" "));
function seek(reel) {
    const film = reel.closest(".film"), [step, address] = frames(reel)[Number(reel.value)] ?? [];
    if (!address) return;
    film.querySelector("img").src = address;
    film.querySelector("output").textContent = `step ${step}`;
}
document.addEventListener("input", (event) => {
    if (event.target.matches(".wiper")) wipe(event.target);
    if (event.target.matches(".reel")) seek(event.target);
});
document.addEventListener("refreshed", () => { document.querySelectorAll(".wiper").forEach(wipe); document.querySelectorAll(".reel").forEach(seek); });
document.addEventListener("click", (event) => {
    const button = event.target.closest(".play");
    if (!button) return;
    const reel = button.closest(".film").querySelector(".reel"), most = Number(reel.max);
    let at = Number(reel.value) >= most ? 0 : Number(reel.value);
    button.disabled = true;
    const next = () => {
        if (!reel.isConnected) return;
        reel.value = at; seek(reel);
        if (at++ < most) setTimeout(next, 300); else button.disabled = false;
    };
    next();
});
